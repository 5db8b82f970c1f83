# Each fold of a search writes its predictions into a table of its own, and the script reads all of them.
# Source: Stack Overflow "save out-of-fold predictions in GridSearchCV"
# Kind: A
# Twice
# Slow
import csv
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier

out = Path("predictions")
out.mkdir(exist_ok=True)
for old in out.iterdir():
    old.unlink()


def scorer(model, X, y):
    predicted = model.predict(X)
    with open(out / f"{model.n_neighbors}-{X.sum():.1f}.csv", "w", newline="") as file:
        csv.writer(file).writerows(zip(y.tolist(), predicted.tolist()))
    return float((predicted == y).mean())


search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5]}, cv=3, scoring=scorer, n_jobs=2)
search.fit(*load_iris(return_X_y=True))
print(search.best_params_)
for path in sorted(out.iterdir()):
    rows = list(csv.reader(path.open()))
    print(path.name, len(rows), sum(row[0] == row[1] for row in rows))
