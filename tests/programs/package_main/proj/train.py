# A project that is run as a module: `python -m proj.train`. It imports its modules relatively.
# Source: Stack Overflow "attempted relative import with no known parent package"; a project run as `python -m proj.train`
# Kind: D
# Module: proj.train
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score

from .model import make

if __name__ == "__main__":
    print(cross_val_score(make(), *load_iris(return_X_y=True), cv=3).round(4).tolist())
