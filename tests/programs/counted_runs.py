# What a fit's code reads from the environment is another fit: the script counts its runs in a file and sets a variable.
# Source: dask/distributed#2908; this project's issue on wrong scores that were kept
# Kind: H
# Twice
import os
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB

counter = Path("runs.txt")
runs = int(counter.read_text()) + 1 if counter.exists() else 1
counter.write_text(str(runs))
os.environ["SCORE_OFFSET"] = str(runs)


def scorer(model, X, y):
    return model.score(X, y) + float(os.environ["SCORE_OFFSET"])


print(cross_val_score(GaussianNB(), *load_iris(return_X_y=True), cv=3, scoring=scorer).round(4).tolist())
