# The script sets an environment variable that its own code reads wherever it runs.
# Source: dask/distributed#2908 (propagate environment variables to workers)
# Kind: B
# Twice
import os
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

os.environ["MYPROJECT_SCALE"] = "10"


def scaled(X):
    return X * float(os.environ.get("MYPROJECT_SCALE", "0"))


pipe = make_pipeline(FunctionTransformer(scaled), LogisticRegression(max_iter=2000))
print(cross_val_score(pipe, *load_iris(return_X_y=True), cv=3).round(4).tolist())
