# An estimator fits its parts in a ProcessPoolExecutor of its own, inside a search.
# Source: dask/distributed#2718, Stack Overflow "ProcessPoolExecutor in an estimator's fit"
# Kind: E
# Told: runs in this process: its tasks
# Slow
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV


def slope(column, y):
    return float(np.polyfit(column, y, 1)[0])


class Slopes(RegressorMixin, BaseEstimator):
    def __init__(self, shrink=1.0):
        self.shrink = shrink

    def fit(self, X, y):
        with ProcessPoolExecutor(2) as pool:
            self.slopes_ = np.array(list(pool.map(slope, X.T, [y] * X.shape[1])))
        self.mean_ = y.mean()
        return self

    def predict(self, X):
        return self.mean_ + self.shrink * (X @ self.slopes_) / X.shape[1]


if __name__ == "__main__":
    search = GridSearchCV(Slopes(), {"shrink": [1.0, 3.0]}, cv=2).fit(*load_diabetes(return_X_y=True))
    print(search.best_params_, search.cv_results_["mean_test_score"].round(4).tolist())
