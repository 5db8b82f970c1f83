# Fits append a line each to a file of notes; a rerun appends more. The order is that of the folds.
# Source: Stack Overflow "write to the same file from joblib Parallel"
# Kind: A
# Told: runs in this process: its tasks change a file that they share, `notes.txt`
# Twice
# Slow
import os
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score

NOTES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "notes.txt")


class Noting(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.model_ = Ridge().fit(X, y)
        with open(NOTES, "a") as notes:
            notes.write(f"{len(X)} rows, mean {y.mean():.3f}\n")
        return self

    def predict(self, X):
        return self.model_.predict(X)


print(cross_val_score(Noting(), *load_diabetes(return_X_y=True), cv=5).round(4).tolist())
with open(NOTES) as notes:
    print(notes.read())
