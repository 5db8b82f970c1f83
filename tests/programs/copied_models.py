# Models of each fold and of a stack are copied, cloned, pickled and compared; they hold functions and classes of the
# script.
# Source: imbalanced-learn#703; cloudpickle issues on classes that come back as others
# Kind: K
# Slow
import copy
import pickle
from functools import partial
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def power(X, exponent):
    return np.asarray(X) ** exponent


square = partial(power, exponent=2)
X, y = load_iris(return_X_y=True)
pipe = make_pipeline(FunctionTransformer(square), LogisticRegression(max_iter=3000))
stack = StackingClassifier([("pipe", pipe), ("bayes", GaussianNB())], cv=2)
result = cross_validate(stack, X, y, cv=2, return_estimator=True)
for model in [*result["estimator"], stack.fit(X, y)]:
    func = model.estimators_[0][0].func
    again = pickle.loads(pickle.dumps(model))
    copies = [copy.deepcopy(model), again, clone(model).fit(X, y)]
    print(func.func is power, func is square, again.estimators_[0][0].func.func is power)
    print([int((each.predict(X) == model.predict(X)).sum()) for each in copies])
