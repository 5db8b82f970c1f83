# What is collected stands in arguments: of a partial, of `make_scorer`, and of what goes to `fit`.
# Source: Stack Overflow "pass a list to a custom scorer", "callbacks in fit_params of cross_validate"
# Kind: A
# Told: runs in this process: its tasks change `scorer`
# Told: runs in this process: its tasks change `fit_params`
# Told: runs in this process: its tasks change `partial`
# Slow
from functools import partial
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import cross_val_score, cross_validate
from sklearn.naive_bayes import GaussianNB

X, y = load_iris(return_X_y=True)


def noting(log, model, X, y):
    log.append((len(X), round(model.score(X, y), 3)))
    return log[-1][1]


def accuracy(y_true, y_pred, log=None):
    log.append(int((y_true != y_pred).sum()))
    return accuracy_score(y_true, y_pred)


class WithCallback(ClassifierMixin, BaseEstimator):
    def fit(self, X, y, log=None):
        log.append(round(float(X.mean()), 3))
        self.model_ = GaussianNB().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


by_partial, by_scorer, by_fit, by_task = [], [], [], []
cross_val_score(GaussianNB(), X, y, cv=3, scoring=partial(noting, by_partial))
cross_val_score(GaussianNB(), X, y, cv=3, scoring=make_scorer(accuracy, log=by_scorer))
cross_validate(WithCallback(), X, y, cv=3, params={"log": by_fit})
print(by_partial, by_scorer, by_fit)


def step(log, number):
    log.append(number)
    return len(log)


print(Parallel()(delayed(partial(step, by_task))(number) for number in range(5)), by_task)
