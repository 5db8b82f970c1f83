# A transformer works in threads, which print, warn and log.
# Source: transformers of the user's that load in a ThreadPoolExecutor, and say so
# Kind: E
# Slow

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

logging.basicConfig(format="%(message)s", stream=sys.stdout)


def part(number):
    print("part", number)
    logging.warning("logged %d", number)
    return number


class InThreads(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        with ThreadPoolExecutor(1) as executor:
            list(executor.map(part, range(2)))
        return X


X, y = load_iris(return_X_y=True)
print(cross_val_score(make_pipeline(InThreads(), LogisticRegression(max_iter=500)), X, y, cv=2))
