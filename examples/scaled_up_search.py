"""A search on as many machines as there are: here its fits sleep, for there are not twenty machines to hand.

    python examples/scaled_up_search.py
    skjob run --workers 1:20 examples/scaled_up_search.py --candidates 100

A fit sleeps for half a second and is done: it needs no core, so that many workers share one machine and still take the
time that as many machines would. Leave `Sleeping` out, and it is a real search. Workers come as the search needs them,
and go as it ends.
"""

import argparse
import time

from scipy.stats import loguniform
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import RandomizedSearchCV

parser = argparse.ArgumentParser()
parser.add_argument("--candidates", type=int, default=8)
parser.add_argument("--seconds", type=float, default=0.5, help="how long a fit sleeps")
options = parser.parse_args()


class Sleeping(Ridge):
    """Ridge regression that takes its time."""

    def fit(self, X, y):
        time.sleep(options.seconds)
        return super().fit(X, y)


X, y = load_diabetes(return_X_y=True)

search = RandomizedSearchCV(
    Sleeping(), {"alpha": loguniform(1e-4, 1e1)}, n_iter=options.candidates, cv=5, n_jobs=-1, random_state=0
)
began = time.perf_counter()
search.fit(X, y)
seconds = time.perf_counter() - began

fits = options.candidates * 5 + 1  # and the last, on all data
print(f"best alpha: {search.best_params_['alpha']:.5f}")
print(f"best score: {search.best_score_:.4f}")
print(f"{fits} fits that sleep for {options.seconds:g} s each, one after the other: {fits * options.seconds:g} s")
print(f"fitted in {seconds:.1f} s")
