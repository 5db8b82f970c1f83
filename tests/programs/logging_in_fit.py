# A script with a log of its own: level INFO, to stdout. Its estimator tells what it does. No n_jobs.
# Source: joblib#1017 (standard logging using loky), scikit-learn discussions on logging from estimators
# Kind: A
# Slow
import logging
import sys
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
log = logging.getLogger("train")


class Talking(ClassifierMixin, BaseEstimator):
    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y):
        log.info("fitting %d rows with C=%s", len(X), self.C)
        self.model_ = LogisticRegression(C=self.C, max_iter=500).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


search = GridSearchCV(Talking(), {"C": [0.1, 1]}, cv=2).fit(*load_iris(return_X_y=True))
log.info("best %s", search.best_params_)
