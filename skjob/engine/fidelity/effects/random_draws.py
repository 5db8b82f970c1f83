"""Find out whether a task draws from a global generator of random numbers, or seeds it.

A program seeds the generator of its own process. A task on a worker draws from the worker's, and gets other numbers
than in plain Python. This is checked only if the program has seeded one.

A task that seeds a generator itself gets the same numbers anywhere. If plain Python runs it in the program's process,
what the program draws afterwards continues from there: so the state comes back with the task's result.
"""

from __future__ import annotations

import operator
import pickle
import sys
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from skjob.engine.checkpoint.bytecode import uses

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


SEEDED = "seeded a global generator"
"""The effect of a task that seeds: its result does not contain it, so such a fit is not stored."""


def seeded_by(codes: Iterable[Any]) -> frozenset[str]:
    """Return the modules whose global generator these functions seed, as far as their code tells."""
    found: set[str] = set()
    for code in codes:
        if isinstance(code, FunctionType):
            used = uses(code.__code__)
            if "seed" in used.words:
                found.update(_module_of(code, chain) for chain in used.chains if "seed" in chain)
                found.update(each.module for each in used.imports)  # `import random` within the function
    if "numpy" in found:
        found.add(NUMPY)
    return frozenset(found & SEEDING.keys())


def _module_of(function: FunctionType, chain: tuple[str, ...]) -> str:
    """Return the module whose `seed` this is, by the name that a function has for it; empty for any other object."""
    try:
        value = function.__globals__[chain[0]]
        found = operator.attrgetter(".".join(chain[1:]))(value) if chain[1:] else value
    except (AttributeError, KeyError):
        return ""
    return next((name for name in SEEDING if found is getattr(sys.modules.get(name), "seed", None)), "")


def begin_anew(modules: Iterable[str]) -> dict[str, Any]:
    """Give the global generators of these modules a state that no seed gives, and return it.

    A task that seeds may leave a generator in the very state in which the last one has left it.
    """
    for module in modules:
        if module == NUMPY and (numpy := sys.modules.get("numpy.random")) is not None:
            numpy.set_state(numpy.MT19937().state)
        elif module == "random" and (random := sys.modules.get("random")) is not None:
            random.seed()
    return states(modules)


def states(modules: Iterable[str]) -> dict[str, Any]:
    """Return the states of the global generators of these modules."""
    found: dict[str, Any] = {}
    for module in modules:
        if module == NUMPY and (numpy := sys.modules.get("numpy.random.mtrand")) is not None:
            found[module] = numpy._rand.get_state(legacy=True)
        elif module == "random" and (random := sys.modules.get("random")) is not None:
            found[module] = random.getstate()
    return found


def moved(before: dict[str, Any]) -> dict[str, Any]:
    """Return the states of those generators that have another one than `before`."""
    return {
        module: state for module, state in states(before).items() if pickle.dumps(state) != pickle.dumps(before[module])
    }


def continue_from(after: dict[str, Any]) -> None:
    """Let the global generators of this process continue from these states, as ones that the program has seeded."""
    import random

    import numpy as np

    for module, state in after.items():
        if module == NUMPY:
            np.random.seed(0)
            np.random.set_state(state)
        else:
            random.setstate(state)
