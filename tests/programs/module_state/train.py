# A module beside the script keeps a registry that tasks add to through its functions, and the script reads.
# Source: Stack Overflow "global variable in imported module not updated by joblib"
# Kind: A
# Slow
# Told: runs in this process: its tasks change `registry.
import registry
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_validate
from sklearn.naive_bayes import GaussianNB


def scorer(model, X, y):
    score = model.score(X, y)
    registry.note(f"{len(X)} rows, {X.sum():.1f}", round(score, 4))
    return score


cross_validate(GaussianNB(), *load_iris(return_X_y=True), cv=4, scoring=scorer, return_train_score=True)
print(registry.RESULTS)
print(registry.order())
