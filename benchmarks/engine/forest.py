"""g: fit a random forest on real cores: 200 trees, 20,000 × 40.

`threads` is what a forest does by default with n_jobs: threads build its trees, without copying anything. Every peer
has as many workers as this machine has cores. The fit is timed on warm workers, but its own data must still be sent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

from engine.measure import SKJOB, Case, Numbers, Row, timed
from engine.peers import engine, warm_up

SLOWER = 1.1


def fit(peer: str, quick: bool) -> Numbers:
    """Measure one fit."""
    trees, rows = (10, 500) if quick else (200, 20_000)
    X, y = make_classification(rows, 40, n_informative=10, random_state=0)
    cores = len(os.sched_getaffinity(0))
    numbers: Numbers = {}
    with engine(peer, cores):
        warm_up(cores)
        RandomForestClassifier(2 * cores, random_state=1).fit(X[:100], y[:100])
        with timed(numbers, "seconds"):
            forest = RandomForestClassifier(trees, random_state=0).fit(X, y)
    return {**numbers, "score": forest.score(X[:500], y[:500])}


def _limit(seconds: Mapping[str, float]) -> float | None:
    held_to = [seconds[peer] for peer in ("loky", "threads") if peer in seconds]
    return SLOWER * min(held_to) if held_to and SKJOB in seconds else None


CASES = (Case("g", fit, ("skjob", "dask", "loky", "ray", "threads"), rounds=5),)

ROWS = (Row("g", "forest, 200 trees, 20,000 × 40: seconds", "g", "seconds", "{:.1f}", _limit, "≤ 1.1 × loky, threads"),)
