# A scorer collects; first in processes, where plain Python loses what it does, then in the program's own.
# Source: a user's comparison of the same search with and without n_jobs
# Kind: H
# Told: runs in this process: its tasks change `seen`
# Slow

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

seen = []


def score(estimator, X, y):
    seen.append(len(X))
    return estimator.score(X, y)


def printing(estimator, X, y):
    print("scored", len(X))
    return estimator.score(X, y)


X, y = load_iris(return_X_y=True)
model = LogisticRegression(max_iter=500)
cross_val_score(model, X, y, cv=5, scoring=score, n_jobs=2)
print(len(seen))
cross_val_score(model, X, y, cv=5, scoring=score)
print(len(seen))
for _ in range(3):
    print(cross_val_score(model, X, y, cv=3, scoring=printing))
