# A stream of the program's own counts what is written to it.
# Source: Stack Overflow "how to duplicate sys.stdout to a log file", a class in the place of sys.stdout
# Kind: A
# Slow

import sys

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


class Marking:
    def __init__(self, stream):
        self.stream = stream
        self.writes = 0

    def write(self, text):
        self.writes += 1
        return self.stream.write(text.replace("step", f"[{self.writes}] step"))

    def flush(self):
        self.stream.flush()


def score(estimator, X, y):
    print("step", "one")
    print("step two")
    return estimator.score(X, y)


X, y = load_iris(return_X_y=True)
sys.stdout = marking = Marking(sys.stdout)
cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, scoring=score)
sys.stdout = marking.stream
print(marking.writes)
