# Tasks look up functions of the program by a name that is made at run time, and ask in which process they are.
# Source: Stack Overflow "calling a function of a module by using its name"; prints of the main process alone
# Kind: D
# Told: runs in this process: its tasks look up names of the program by `globals`
# Told: runs in this process: its tasks ask in which process or thread they run, by `current_process`
# Slow

import multiprocessing

from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline


def square(value):
    return value * value


class ByName(TransformerMixin, BaseEstimator):
    def __init__(self, name="square"):
        self.name = name

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return globals()[self.name](X)


def is_main(number):
    return multiprocessing.current_process().name == "MainProcess"


X, y = load_iris(return_X_y=True)
print(cross_val_score(make_pipeline(ByName(), Ridge()), X, y, cv=3))
print(Parallel()(delayed(is_main)(number) for number in range(2)))
