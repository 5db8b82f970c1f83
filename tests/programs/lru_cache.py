# A helper of the script's is cached. No n_jobs.
# Source: cloudpickle#178, joblib/loky#268, dask/distributed#5998 (lru_cache functions of __main__)
# Kind: D
# Slow
from functools import cache, lru_cache, singledispatch
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


@lru_cache(maxsize=None)
def factor(n):
    return 1.0 if n < 2 else n * factor(n - 1)


def scaled(X):
    return X * np.array([factor(i) for i in range(X.shape[1])])


print(
    cross_val_score(
        make_pipeline(FunctionTransformer(scaled), LogisticRegression(max_iter=3000)), *load_iris(return_X_y=True), cv=3
    )
    .round(4)
    .tolist()
)
