# A scorer stores each score in a SQLite data base by its path; the script asks it at the end.
# Source: Optuna and Stack Overflow questions on "log cross-validation results to sqlite"
# Kind: A
# Told: runs in this process: its tasks change a file that they share, `scores.db`
# Twice
# Slow
import sqlite3
from contextlib import closing
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

BASE = "scores.db"
with closing(sqlite3.connect(BASE)) as base, base:
    base.execute("DROP TABLE IF EXISTS scores")
    base.execute("CREATE TABLE scores (depth INTEGER, rows INTEGER, score REAL)")


def scorer(model, X, y):
    score = model.score(X, y)
    with closing(sqlite3.connect(BASE, timeout=20)) as base, base:
        base.execute("INSERT INTO scores VALUES (?, ?, ?)", (model.max_depth, len(X), score))
    return score


for depth in (1, 3):
    tree = DecisionTreeClassifier(max_depth=depth, random_state=0)
    cross_val_score(tree, *load_iris(return_X_y=True), cv=3, scoring=scorer)
with closing(sqlite3.connect(BASE)) as base:
    print(base.execute("SELECT depth, COUNT(*), SUM(rows), ROUND(AVG(score), 4) FROM scores GROUP BY depth").fetchall())
