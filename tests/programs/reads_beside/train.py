# A transformer reads its settings from a file beside the script, by a path relative to the script.
# Source: dask/distributed#2907 and Stack Overflow "FileNotFoundError on dask worker"
# Kind: A
# Slow
import json
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def chosen(X):
    settings = json.loads((Path(__file__).parent / "features.json").read_text())
    return X[:, settings["columns"]] * settings["scale"]


pipe = make_pipeline(FunctionTransformer(chosen), LogisticRegression(max_iter=1000))
print(cross_val_score(pipe, *load_iris(return_X_y=True), cv=4).round(4).tolist())
