# A fit reads a file, which has another content in the second run.
# Source: joblib#60 (cached results that depend on files)
# Kind: H
# Twice
# Slow

from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score


class FromFile(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.level_ = float(Path("level.txt").read_text())
        return self

    def predict(self, X):
        return np.full(len(X), self.level_)


file = Path("level.txt")
file.write_text(file.read_text() + "0" if file.exists() else "1")
X, y = load_iris(return_X_y=True)
print(cross_val_score(FromFile(), X, y, cv=3))
