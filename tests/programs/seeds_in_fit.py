# An estimator seeds numpy's global generator in `fit`, and the program draws from it afterwards.
# Source: sktime/skpro#1039, gc-os-ai/pyaptamer#650 (np.random.seed in fit changes the global state)
# Kind: B
# Twice
# Slow

import random

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score


class Seeding(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        np.random.seed(7)
        self.classes_ = np.unique(y)
        self.weight_ = np.random.rand()
        return self

    def predict(self, X):
        return np.full(len(X), int(self.weight_ * 3))


def draw(seed):
    random.seed(seed)
    return random.random()


X, y = load_iris(return_X_y=True)
print(cross_val_score(Seeding(), X, y, cv=3))
print(np.random.rand(3))
print(Parallel()(delayed(draw)(seed) for seed in range(3)), random.random())
