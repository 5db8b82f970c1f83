# A scorer keeps the best model so far in global variables, and stops looking at later ones once it has a good one.
# Source: Stack Overflow "keep the best model of cross_val_score"
# Kind: A
# Told: runs in this process: its tasks change `best`
# Slow
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

best, best_model, seen = -1.0, None, 0


def scorer(model, X, y):
    global best, best_model, seen
    seen += 1
    score = model.score(X, y)
    if score > best:
        best, best_model = score, model
    return score


for depth in (1, 2, 3):
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0)
    cross_val_score(tree, *load_wine(return_X_y=True), cv=4, scoring=scorer)
print(seen, round(best, 4), best_model, best_model.tree_.node_count)
