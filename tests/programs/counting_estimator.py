# An estimator counts its fits in its class, and so does the list of what each has seen.
# Source: Stack Overflow questions on "count how many times fit is called in GridSearchCV"
# Kind: A
# Told: runs in this process: its tasks change `Counting.fits`
# Slow
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV


class Counting(ClassifierMixin, BaseEstimator):
    fits = 0

    def __init__(self, strategy="prior"):
        self.strategy = strategy

    def fit(self, X, y):
        Counting.fits += 1
        self.number_ = Counting.fits
        self.model_ = DummyClassifier(strategy=self.strategy).fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


search = GridSearchCV(Counting(), {"strategy": ["prior", "most_frequent", "stratified"]}, cv=3, error_score="raise")
search.fit(*load_iris(return_X_y=True))
print("fits", Counting.fits, "the best model is the one of fit", search.best_estimator_.number_)
