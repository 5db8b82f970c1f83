# A wrapper leaves its model out of its pickle; the program keeps the fitted wrappers.
# Source: keras-team/keras#4274 (wrappers of models that cannot be pickled, with __getstate__)
# Kind: A
# Told: runs in this process: its results are not what they are in one process: a `Wrapper` loses `model_` when it is pickled
# Slow

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate


class Wrapper(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.model_ = LogisticRegression(max_iter=500).fit(X, y)
        return self

    def predict(self, X):
        return self.model_.predict(X)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "model_"}


class Labelled(np.ndarray):
    """An array with an attribute, which numpy does not pickle."""


def label(array):
    return getattr(array, "label", None)


X, y = load_iris(return_X_y=True)
fitted = cross_validate(Wrapper(), X, y, cv=3, return_estimator=True)["estimator"]
print([each.predict(X[:2]).tolist() for each in fitted])

array = np.arange(3.0).view(Labelled)
array.label = "metres"
print(Parallel()(delayed(label)(each) for each in [array, array]))
