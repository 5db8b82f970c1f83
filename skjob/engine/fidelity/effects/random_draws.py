"""Find out whether a task draws from a global generator of random numbers.

A program seeds the generator of its own process. A task on a worker draws from the worker's, and gets other numbers
than in plain Python. This is checked only if the program has seeded one.
"""

from __future__ import annotations

import sys
from typing import Any

SEEDING = {"numpy.random": "np.random.seed", "random": "random.seed"}
NUMPY = "numpy.random"

Positions = dict[str, Any]


def positions(modules: frozenset[str]) -> Positions:
    """Return the positions of the global generators of these modules."""
    found: Positions = {}
    if "random" in modules and (random := sys.modules.get("random")) is not None:
        found["random"] = random.getstate()
    if NUMPY in modules and (numpy := sys.modules.get("numpy.random.mtrand")) is not None:
        state = numpy._rand.get_state(legacy=False)
        found[NUMPY] = (state["state"]["pos"], state["state"]["key"].tobytes(), state["has_gauss"])
    return found


def drawn(modules: frozenset[str], before: Positions) -> tuple[str, ...]:
    """Return the modules whose generator was used since `before`."""
    if not before:
        return ()
    now = positions(modules)
    return tuple(sorted(module for module in before if now[module] != before[module]))


def describe_draw(module: str) -> str:
    """Return the line that reports tasks that drew from the generator of this module."""
    remedy = "give each estimator a `random_state`" if module == NUMPY else "give each task a `random.Random(seed)`"
    return f"`{SEEDING[module]}` does not reach workers, and tasks draw from `{module}` there; {remedy}"
