# Tasks register functions for the end of the program, and write to a large array that they share.
# Source: scikit-learn#5956 (assignment destination is read-only)
# Kind: A
# Slow
# Told: runs in this process: its tasks register functions for the end of the program
# Told: runs in this process: its tasks write to data that they share

import atexit

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score

table = np.zeros((400, 400))


class Filling(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        table[0, 0] += len(X)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), int)


def register(number):
    atexit.register(print, "the end", number)
    return number


print(Parallel()(delayed(register)(number) for number in range(3)))
X, y = load_iris(return_X_y=True)
print(cross_val_score(Filling(), X, y, cv=3), table[0, 0])
