# A scorer is an object of the script's that remembers its calls in attributes.
# Source: scikit-learn's manual, "Callable scorers"; Stack Overflow "scorer class with state"
# Kind: A
# Told: runs in this process: its tasks change `Remembering`
# Slow
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV


class Remembering:
    def __init__(self):
        self.errors = []

    def __call__(self, model, X, y):
        error = float(abs(model.predict(X) - y).mean())
        self.errors.append(round(error, 4))
        return -error


scorer = Remembering()
search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=3, scoring=scorer)
search.fit(*load_diabetes(return_X_y=True))
print(search.best_params_, scorer.errors)
