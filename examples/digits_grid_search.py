"""A grid search: tune a support vector classifier on the handwritten digits.

    python examples/digits_grid_search.py
    skjob run --workers 2 examples/digits_grid_search.py

An argument is a path: the whole cv_results_ goes there as JSON, with every digit of every score.
"""

import json
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

X, y = load_digits(return_X_y=True)

search = GridSearchCV(
    SVC(kernel="rbf"),
    {"C": [1, 10, 100], "gamma": [1e-4, 5e-4, 1e-3]},
    cv=4,
    n_jobs=-1,
)
began = perf_counter()
search.fit(X, y)
seconds = perf_counter() - began

print(f"best parameters: {search.best_params_}")
print(f"best score:      {search.best_score_:.6f}")
print(f"fitted in {seconds:.1f} s")

if len(sys.argv) > 1:
    results = {name: np.ma.asarray(values).tolist() for name, values in search.cv_results_.items()}
    Path(sys.argv[1]).write_text(json.dumps(results, indent=1))
