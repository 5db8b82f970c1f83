# A library's method is replaced after the first call of the same line.
# Source: a user's comparison of a method before and after it is replaced
# Kind: D
# Slow

import numpy as np
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB

X, y = load_iris(return_X_y=True)


def evaluate():
    return cross_val_score(GaussianNB(), X, y, cv=3).round(3).tolist()


print(evaluate())
GaussianNB.predict = lambda self, X: np.zeros(len(X), int)
print(evaluate())
