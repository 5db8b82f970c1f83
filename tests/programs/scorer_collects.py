# A scorer notes each fold's confusion matrix in a list of the script's. No n_jobs anywhere: plain Python has one
# process.
# Source: the question "confusion matrix / predictions of each fold from a custom scorer" (Stack Overflow)
# Kind: A
# Told: runs in this process: its tasks change `matrices`
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import cross_val_score

matrices = []


def scorer(model, X, y):
    predicted = model.predict(X)
    matrices.append(confusion_matrix(y, predicted))
    return accuracy_score(y, predicted)


scores = cross_val_score(LogisticRegression(max_iter=500), *load_iris(return_X_y=True), cv=5, scoring=scorer)
print("mean", round(scores.mean(), 4))
print("folds noted", len(matrices))
print("sum", sum(matrices).tolist() if matrices else "nothing")
