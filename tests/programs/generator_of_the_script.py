# A scorer draws a bootstrap sample from one random generator of the script's: each fold goes on where the last stopped.
# Source: scikit-learn's manual, "Controlling randomness"
# Kind: A
# Told: runs in this process: its tasks change `rng`
# Slow
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

rng = np.random.default_rng(42)


def bootstrapped(model, X, y):
    rows = rng.integers(0, len(X), len(X))
    return model.score(X[rows], y[rows])


print(
    cross_val_score(LogisticRegression(max_iter=500), *load_iris(return_X_y=True), cv=5, scoring=bootstrapped).tolist()
)
print("next", int(rng.integers(1000)))
