from sklearn.base import BaseEstimator, TransformerMixin

from .sizes import FACTOR


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.factor_ = FACTOR
        return self

    def transform(self, X):
        return X * self.factor_
