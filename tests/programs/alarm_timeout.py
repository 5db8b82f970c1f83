# Fits that take too long are given up by an alarm, and score as `error_score` says. No n_jobs.
# Source: timeout-decorator#66, PyMultiNest#178 (signal only works in main thread; Dask workers), TPOT#1221
# Kind: E
# Told: runs in this process: its tasks set a handler of signals
# Slow
import signal
import time
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
import warnings

warnings.simplefilter("ignore")


class TooSlow(Exception):
    pass


def give_up(*_):
    raise TooSlow("took too long")


class Limited(ClassifierMixin, BaseEstimator):
    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def fit(self, X, y):
        before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            time.sleep(self.seconds)
            self.model_ = DummyClassifier().fit(X, y)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


search = GridSearchCV(Limited(), {"seconds": [0.0, 3.0]}, cv=2, error_score=-1.0).fit(*load_iris(return_X_y=True))
print(search.cv_results_["mean_test_score"].round(4).tolist())
