# `numpy.random.seed` at the top, and estimators without random_state: plain Python gives the same numbers each time.
# Source: scikit-learn's FAQ, "How do I set a random_state for an entire execution?"
# Kind: B
# Told: `np.random.seed` does not reach workers
# Differs
# Slow
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score
from sklearn.tree import DecisionTreeClassifier

np.random.seed(7)
X, y = load_wine(return_X_y=True)
print(cross_val_score(DecisionTreeClassifier(max_features=1), X, y, cv=5).round(4).tolist())
print(np.random.randint(1_000_000))
