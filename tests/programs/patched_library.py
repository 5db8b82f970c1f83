# The script changes a library before it uses it: a method that is replaced, one that is added, an accessor of pandas.
# Source: Stack Overflow "monkey patching and joblib", pandas' manual on accessors
# Kind: D
# Told: runs in this process: the program has replaced
# Slow
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB


@pd.api.extensions.register_series_accessor("shop")
class Shop:
    def __init__(self, series):
        self.series = series

    def rounded(self):
        return self.series.round(1)


original = GaussianNB.predict


def reversed_predict(self, X):
    return 2 - original(self, X)


def of_series(values):
    return pd.Series(values).shop.rounded().tolist()


print(Parallel()(delayed(of_series)([0.123 * i, 1.26]) for i in range(3)))
GaussianNB.predict = reversed_predict
print(cross_val_score(GaussianNB(), *load_iris(return_X_y=True), cv=3).round(3).tolist())
np.double_of = lambda x: 2 * x


def doubled(x):
    return np.double_of(x)


print(Parallel()(delayed(doubled)(x) for x in range(3)))
