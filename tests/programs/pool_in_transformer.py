# A transformer that parses texts with processes of its own, inside a cross-validation.
# Source: dask/distributed#2142, #2718 (daemonic processes are not allowed to have children)
# Kind: E
# Told: runs in this process: its tasks start processes
# Slow
from multiprocessing import Pool
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline


def features(text):
    return [len(text), text.count("a"), text.count("e")]


class ParallelText(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        with Pool(2) as pool:
            return np.array(pool.map(features, list(X)))


texts = np.array(["aaa" * (i % 5) + "e" * (i % 3) + "xyz" for i in range(60)])
target = np.array([i % 5 > 1 for i in range(60)], dtype=int)
print(cross_val_score(make_pipeline(ParallelText(), LogisticRegression()), texts, target, cv=3).round(4).tolist())
