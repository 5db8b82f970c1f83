# A transformer's function keeps what it has computed in a dictionary of the script's, and the script shows its hits.
# Source: Stack Overflow questions on memoizing in scikit-learn transformers
# Kind: A
# Told: runs in this process: its tasks change `computed`
# Slow
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

computed = {}
hits = []


def features(X):
    key = X.shape[0], round(float(X.sum()), 2)
    if key in computed:
        hits.append(key)
    else:
        computed[key] = np.c_[X, X**2]
    return computed[key]


pipe = make_pipeline(FunctionTransformer(features), LogisticRegression(max_iter=5000))
for _ in range(2):
    print(cross_val_score(pipe, *load_iris(return_X_y=True), cv=3).round(4).tolist(), len(computed), len(hits))
print(sorted(computed), hits)
