# A search over a ColumnTransformer with functions and a class of the script's is saved by joblib.
# Source: imbalanced-learn#703; the commonest end of a program
# Kind: K
# Slow
import joblib
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer


def lengths(column):
    return column.to_frame().map(len).to_numpy()


def names_out(transformer, names):
    return [f"length_{name}" for name in names]


class Clipped(TransformerMixin, BaseEstimator):
    def __init__(self, high=5):
        self.high = high

    def fit(self, X, y=None):
        self.seen_ = len(X)
        return self

    def transform(self, X):
        return X.clip(upper=self.high)


frame = pd.DataFrame({"text": ["a" * (i % 7) for i in range(60)], "size": range(60)})
target = [int(i % 7 > 3) for i in range(60)]
columns = ColumnTransformer([("text", FunctionTransformer(lengths), "text"), ("size", Clipped(), ["size"])])
pipe = Pipeline([("columns", columns), ("model", LogisticRegression())])
search = RandomizedSearchCV(pipe, {"columns__size__high": [1, 5, 50]}, n_iter=3, cv=3, random_state=0)
search.fit(frame, target)
joblib.dump(search, "search.joblib", compress=3)
loaded = joblib.load("search.joblib")
print(search.best_params_, (loaded.predict(frame) == search.predict(frame)).all(), round(search.best_score_, 4))
own = search.best_estimator_["columns"].named_transformers_
print(
    own["text"].func is lengths,
    type(own["size"]) is Clipped,
    own["size"].seen_,
    list(loaded.best_estimator_.named_steps),
)
