# The script asks numpy to raise where it divides by zero, and catches that as a failed fit. No n_jobs.
# Source: numpy/joblib questions: np.seterr, pandas options and recursion limits of the script are not those of workers
# Kind: B
# Slow
import numpy as np
import warnings
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV

np.seterr(all="raise")
warnings.simplefilter("ignore")


class Fragile(ClassifierMixin, BaseEstimator):
    def __init__(self, divisor=1.0):
        self.divisor = divisor

    def fit(self, X, y):
        np.asarray(X) / self.divisor
        self.model_ = DummyClassifier().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


search = GridSearchCV(Fragile(), {"divisor": [1.0, 0.0]}, cv=2, error_score=-1).fit(*load_iris(return_X_y=True))
print(search.cv_results_["mean_test_score"].round(4).tolist())
