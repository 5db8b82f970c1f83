"""The engine without skjob's own clusters: any Dask client will do, here one of this machine.

    python examples/any_dask_client.py

Run it twice: the second time it finds the fits that the first has finished. Under `skjob run`, `Client()` is the run's
cluster, as it is for any program that uses Dask.
"""

from time import perf_counter

import joblib
from dask.distributed import Client
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import skjob.engine  # noqa: F401 - makes the backend known to joblib


def main() -> None:
    X, y = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.0005, 0.001]}, cv=3)
    with Client(), joblib.parallel_config(backend="skjob", checkpoint="fits"):
        began = perf_counter()
        search.fit(X, y)
        seconds = perf_counter() - began
    print(f"best parameters: {search.best_params_}")
    print(f"fitted in {seconds:.1f} s")


if __name__ == "__main__":  # workers of this machine import this file
    main()
