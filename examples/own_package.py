"""A package of your own, installed in editable mode from the next folder: it travels to the workers with the run.

    uv pip install --editable examples/digit-features       # or pip
    python examples/own_package.py
    skjob run --workers 2 examples/own_package.py

No image is built and nothing is published. Edit the package, run again, and the workers have what you wrote.
`skjob env --program examples/own_package.py` shows what is sent, and why.
"""

from time import perf_counter

from digit_features import Ink
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

X, y = load_digits(return_X_y=True)

search = GridSearchCV(
    Pipeline([("ink", Ink()), ("scale", StandardScaler()), ("svc", SVC())]),
    {"ink__symmetry": [False, True], "svc__C": [1, 10]},
    cv=4,
    n_jobs=-1,
)
began = perf_counter()
search.fit(X, y)
seconds = perf_counter() - began

for symmetry in (False, True):
    rows = search.cv_results_["param_ink__symmetry"] == symmetry
    what = "ink and symmetry" if symmetry else "ink"
    print(f"{what:17} best score {search.cv_results_['mean_test_score'][rows].max():.4f}")
print(f"fitted in {seconds:.1f} s")
