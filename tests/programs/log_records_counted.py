# A filter of the script's counts the records of fits, and a file has them with their levels. No n_jobs.
# Source: scikit-learn discussions on logging from estimators
# Kind: A
# Slow
import logging
from collections import Counter
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

counts = Counter()
logging.basicConfig(level="INFO", filename="train.log", filemode="w", format="%(levelname)s:%(message)s")


def count(record):
    counts[record.levelname] += 1
    return True


log = logging.getLogger("estimators")
log.addFilter(count)


class Logging(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        log.info("fitting %d", len(X))
        log.warning("sum %.1f", X.sum())
        log.debug("not made")
        self.model_ = DummyClassifier().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


print(cross_val_score(Logging(), *load_iris(return_X_y=True), cv=4).round(3).tolist())
print(dict(counts))
logging.shutdown()
print(open("train.log").read())
