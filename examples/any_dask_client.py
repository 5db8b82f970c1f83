"""The engine without skjob's own clusters: any Dask client will do, here one of this machine.

    python any_dask_client.py

Run it twice: the second time it finds the fits that the first has finished.
"""

import joblib
from dask.distributed import Client
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import skjob.engine  # noqa: F401 - makes the backend known to joblib


def main() -> None:
    X, y = load_digits(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.0005, 0.001]}, cv=3)
    with (
        Client(n_workers=2, threads_per_worker=1, dashboard_address=None),
        joblib.parallel_config(backend="skjob", checkpoint="fits"),
    ):
        search.fit(X, y)
    print(f"best parameters: {search.best_params_}")


if __name__ == "__main__":  # workers of this machine import this file
    main()
