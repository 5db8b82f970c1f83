# A forward selection of features: many cross-validations of fits of a few milliseconds.
# Source: scikit-learn#16143
# Kind: I
# Slow
from sklearn.datasets import load_diabetes
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.linear_model import Ridge

X, y = load_diabetes(return_X_y=True)
selector = SequentialFeatureSelector(Ridge(), n_features_to_select=3, cv=2).fit(X, y)
print(selector.get_support(indices=True).tolist())
