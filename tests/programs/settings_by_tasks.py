# Tasks change settings of their process, and the program finds them changed.
# Source: functions of the user's that set options of numpy and pandas, and change the folder, as they are called for each fold
# Kind: B
# Told: runs in this process: its tasks change settings of the process by `os.chdir`
# Told: runs in this process: its tasks change settings of the process by `np.set_printoptions`, `pd.set_option`

import os
import tempfile

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

folder = tempfile.mkdtemp()


def enter(name):
    os.chdir(folder)
    return name


def score(estimator, X, y):
    np.set_printoptions(precision=2)
    pd.set_option("display.precision", 2)
    return estimator.score(X, y)


Parallel()(delayed(enter)(name) for name in "ab")
print(os.path.basename(os.getcwd()) == os.path.basename(folder))

X, y = load_iris(return_X_y=True)
cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, scoring=score)
print(np.array([1 / 3]), pd.Series([1 / 3]).to_string())
