# Each fold's score is written to a file beside the script, which the script reads at the end; a rerun starts with an
# empty folder.
# Source: Stack Overflow "save predictions/models of each fold in cross-validation" by a custom scorer
# Kind: A
# Slow
# Told in pods: runs in this process: its tasks write files
# Twice
import shutil
from pathlib import Path
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

out = Path("folds").absolute()
shutil.rmtree(out, ignore_errors=True)
out.mkdir()


def scorer(model, X, y):
    score = model.score(X, y)
    (out / f"{y.sum()}-{len(X)}-{X[0].sum():.1f}.txt").write_text(str(score))
    return score


scores = cross_val_score(LogisticRegression(max_iter=500), *load_iris(return_X_y=True), cv=4, scoring=scorer)
print(round(scores.mean(), 4), "files", len(list(out.iterdir())))
