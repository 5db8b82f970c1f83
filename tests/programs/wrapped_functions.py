# A function that joblib wraps for pickling counts its calls; a cache is asked how often it was used.
# Source: joblib's example "Serialization of un-picklable objects"; functools' cache_info
# Kind: A
# Slow
# Told: runs in this process: its tasks change `calls`
# Told: runs in this process: its tasks change `weight`

from functools import lru_cache

from joblib import Parallel, delayed, wrap_non_picklable_objects
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

calls = 0


@delayed
@wrap_non_picklable_objects
def add(number):
    global calls
    calls += 1
    return number + calls


@lru_cache(maxsize=None)
def weight(number):
    return 1 / number


def score(estimator, X, y):
    return weight(len(X)) * estimator.score(X, y)


print(Parallel()(add(number) for number in range(4)), calls)
X, y = load_iris(return_X_y=True)
print(cross_val_score(LogisticRegression(max_iter=500), X, y, cv=5, scoring=score))
print(weight.cache_info())
