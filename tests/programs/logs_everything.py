# A program logs all that there is; skjob's own files are none of its business. Its class of loggers stays here.
# Source: joblib#1017 (logging in workers), `logging.basicConfig(level=...)` for all loggers
# Kind: A
# Slow
# Told: runs in this process: it cannot be sent to workers

import logging
import sys

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


class Spoken(logging.Logger):
    def success(self, message, *arguments):
        self.log(25, "well: " + message, *arguments)


def score(estimator, X, y):
    logging.debug("scored %d", len(X))
    return estimator.score(X, y)


def score_spoken(estimator, X, y):
    log.success("scored %d", len(X))
    return estimator.score(X, y)


logging.setLoggerClass(Spoken)
log = logging.getLogger("train")
logging.setLoggerClass(logging.Logger)
logging.basicConfig(level=1, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")

X, y = load_iris(return_X_y=True)
print(cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, scoring=score))
print(cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, scoring=score_spoken))
