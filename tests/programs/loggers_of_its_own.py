# A program adds a method to loggers, and has a class of loggers of its own.
# Source: Stack Overflow "how to add a custom loglevel to Python's logging facility"
# Kind: D
# Slow
# Told: runs in this process: the program has replaced `Logger.trace`

import logging
import sys

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


class Spoken(logging.Logger):
    def success(self, message, *arguments):
        self.log(25, "well: " + message, *arguments)


def trace(self, message, *arguments):
    self._log(5, message, arguments)


def score(estimator, X, y):
    log.success("scored %d", len(X))
    logging.getLogger("train.inner").trace("scored %d", len(X))
    return estimator.score(X, y)


logging.addLevelName(5, "TRACE")
logging.Logger.trace = trace
logging.setLoggerClass(Spoken)
log = logging.getLogger("train")
logging.setLoggerClass(logging.Logger)
logging.basicConfig(level=5, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")

X, y = load_iris(return_X_y=True)
print(cross_val_score(LogisticRegression(max_iter=500), X, y, cv=3, scoring=score))
