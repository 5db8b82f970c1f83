import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression


def ratios(X):
    return np.asarray(X) / (1 + np.asarray(X).sum(axis=1, keepdims=True))


class Scaled(ClassifierMixin, BaseEstimator):
    def __init__(self, how=ratios, C=1.0):
        self.how = how
        self.C = C

    def fit(self, X, y):
        self.model_ = LogisticRegression(C=self.C, max_iter=1000).fit(self.how(X), y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(self.how(X))
