# The modules are in a folder that the script puts on `sys.path`; it is run as `python experiments/train.py`.
# Source: dask/distributed#344, #501, dask#6785, dask-kubernetes#222: ModuleNotFoundError on workers
# Kind: D
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "lib"))

from shop.features import Ratio
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

print(
    cross_val_score(make_pipeline(Ratio(), LogisticRegression(C=100, max_iter=2000)), *load_iris(return_X_y=True), cv=3)
    .round(4)
    .tolist()
)
