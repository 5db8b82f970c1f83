# Estimators, scorers and functions of the script's in all kinds of meta-estimators: nothing shared changes, and all of
# it goes to workers.
# Source: this project's rule that reading shared data is no difference
# Kind: A
# Slow
from functools import partial
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import RFECV
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate, learning_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer


class Own(ClassifierMixin, BaseEstimator):
    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y, sample_weight=None):
        self.model_ = LogisticRegression(C=self.C, max_iter=200).fit(X, y, sample_weight)
        self.classes_, self.coef_ = self.model_.classes_, self.model_.coef_
        return self

    def predict(self, X):
        return self.model_.predict(X)

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


def power(X, exponent):
    return np.asarray(X) ** exponent


def agreement(y, predicted, offset=0.0):
    return float((y == predicted).mean()) + offset


X, y = load_iris(return_X_y=True)
X, y = X[::3], y[::3]
scorer = make_scorer(agreement, offset=0.5)
squares, roots = FunctionTransformer(partial(power, exponent=2)), FunctionTransformer(partial(power, exponent=0.5))
models = {
    "voting": VotingClassifier([("a", Own()), ("b", Own(C=0.1))], voting="soft"),
    "stacking": StackingClassifier([("a", Own()), ("b", Own(C=0.1))], cv=2),
    "bagging": BaggingClassifier(Own(), 3, random_state=0),
    "rest": OneVsRestClassifier(Own()),
    "calibrated": CalibratedClassifierCV(Own(), cv=2),
    "union": make_pipeline(FeatureUnion([("squares", squares), ("roots", roots)]), Own()),
    "columns": make_pipeline(ColumnTransformer([("squares", squares, [0, 1]), ("roots", roots, [2])]), Own()),
    "selection": RFECV(Own(), cv=2, scoring=scorer),
    "search": GridSearchCV(Own(), {"C": [0.1, 1.0]}, cv=2, scoring={"own": scorer}, refit="own"),
}
for name, model in models.items():
    model.fit(X, y)
    print(name, round(scorer(model, X, y), 4))
own = Own().fit(X, y)
print(permutation_importance(own, X, y, scoring=scorer, n_repeats=2, random_state=0).importances_mean.round(4).tolist())
print(
    cross_validate(Own(), X, y, cv=2, scoring=scorer, params={"sample_weight": np.ones(len(y))})["test_score"].round(4)
)
print(
    cross_val_predict(Own(), X, y, cv=2)[::7],
    learning_curve(Own(), X, y, cv=2, shuffle=True, random_state=0)[2].round(3)[-1],
)
