# A search over an estimator of a module beside the script is pickled, and a program that serves it loads it.
# Source: imbalanced-learn#703, Stack Overflow "can't pickle: it's not the same object as"
# Kind: K
# Slow
import pickle
import subprocess
import sys
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from steps import Scaled, ratios

search = GridSearchCV(Scaled(), {"C": [1.0, 100.0], "how": [ratios]}, cv=3, n_jobs=2).fit(*load_iris(return_X_y=True))
print(search.best_params_["C"], search.best_params_["how"] is ratios, type(search.best_estimator_) is Scaled)
Path("search.pickle").write_bytes(pickle.dumps(search))
print(subprocess.run([sys.executable, "serve.py"], capture_output=True, text=True, check=True).stdout)
