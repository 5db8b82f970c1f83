# A scorer writes to a file that the script has opened, which no worker could have.
# Source: Stack Overflow "cannot pickle '_io.TextIOWrapper' object" with scikit-learn and joblib
# Kind: D
# Told: runs in this process: it cannot be sent to workers
# Told: `notes`
# Slow
import json
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB

notes = open("notes.jsonl", "w")


def scorer(model, X, y):
    score = model.score(X, y)
    json.dump({"rows": len(X), "score": round(score, 4)}, notes)
    notes.write("\n")
    return score


print(cross_val_score(GaussianNB(), *load_iris(return_X_y=True), cv=3, scoring=scorer).round(4).tolist())
notes.close()
print(open("notes.jsonl").read())
