# The script makes one kind of warning an error and ignores another; a fit that warns then fails, and scores as NaN.
# Source: scikit-learn#12939, joblib#1071 (warning filters do not reach workers)
# Kind: B
# Slow
import warnings
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV


class Warning_(UserWarning):
    pass


class Warns(ClassifierMixin, BaseEstimator):
    def __init__(self, about="nothing"):
        self.about = about

    def fit(self, X, y):
        if self.about == "result":
            warnings.warn("the result is not good", Warning_)
        if self.about == "future":
            warnings.warn("this will go", FutureWarning)
        self.model_ = DummyClassifier().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(X)


warnings.simplefilter("error", Warning_)
warnings.simplefilter("ignore", FutureWarning)
warnings.simplefilter("ignore", FitFailedWarning)
search = GridSearchCV(Warns(), {"about": ["nothing", "result", "future"]}, cv=2, error_score=-1)
search.fit(*load_iris(return_X_y=True))
print(search.cv_results_["mean_test_score"].round(4).tolist())
