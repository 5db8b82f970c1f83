# Ensembles with seeds, n_jobs left alone and given: all digits of what they predict.
# Source: scikit-learn#10119, #22136 (results that depend on n_jobs)
# Kind: C
# Slow
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, ExtraTreesClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression

X, y = make_classification(120, 6, random_state=0)
for n_jobs in (None, 3):
    bagging = BaggingClassifier(LogisticRegression(), 7, max_features=0.5, random_state=0, n_jobs=n_jobs).fit(X, y)
    trees = ExtraTreesClassifier(9, random_state=0, n_jobs=n_jobs).fit(X, y)
    both = VotingClassifier([("bagging", bagging), ("trees", trees)], voting="soft", n_jobs=n_jobs).fit(X, y)
    print([repr(model.predict_proba(X)[:, 1].sum()) for model in (bagging, trees, both)])
    print(permutation_importance(both, X, y, n_repeats=2, random_state=0, n_jobs=n_jobs).importances.tolist())
