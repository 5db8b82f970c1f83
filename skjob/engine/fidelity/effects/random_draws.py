"""Find out whether a task draws from a global generator of random numbers, or seeds it.

A program seeds the generator of its own process. A task on a worker draws from the worker's, and gets other numbers
than in plain Python. This is checked only if the program has seeded one.

A task that seeds a generator before it draws from it gets the same numbers anywhere. If plain Python runs it in the
program's process, what the program draws afterwards continues from there: so the state comes back with the task's
result. That it seeds is known from the call itself: on workers what seeds a global generator is replaced.
"""

from __future__ import annotations

import dis
import importlib
import operator
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import CodeType, FunctionType
from typing import Any

from skjob.engine.checkpoint.bytecode import ATTRIBUTE, uses
from skjob.engine.fidelity.effects.task_threads import inherit

SEEDING = {"numpy.random": "np.random.seed", "random": "random.seed"}
NUMPY = "numpy.random"
MTRAND = "numpy.random.mtrand"
"""The module that defines numpy's global generator; `numpy.random` has its functions too."""

_MARK = "skjob_notes_seeds"
"""The attribute of a function that replaces one that seeds."""

_of_thread = threading.local()
inherit(_of_thread, "draws")
_installing = threading.Lock()

Positions = dict[str, Any]


def positions(modules: frozenset[str]) -> Positions:
    """Return the positions of the global generators of these modules."""
    found: Positions = {}
    if "random" in modules and (random := sys.modules.get("random")) is not None:
        found["random"] = random.getstate()
    if NUMPY in modules and (numpy := sys.modules.get(MTRAND)) is not None:
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


@dataclass
class WatchedDraws:
    """The global generators that a task has seeded, and those it drew from without having seeded them."""

    before: Positions
    seeded: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)

    def note_seed(self, module: str) -> None:
        """Note that the task seeds the generator of this module now."""
        if module not in self.seeded:
            self.note_draws({module})
            self.seeded.add(module)

    def note_draws(self, modules: Iterable[str]) -> None:
        """Note which of these generators the task has used so far."""
        before = {module: self.before[module] for module in modules if module in self.before}
        self.drawn.update(drawn(frozenset(before), before))


@contextmanager
def watched_draws(modules: frozenset[str]) -> Iterator[WatchedDraws]:
    """Watch whether this thread seeds global generators in the block, and draws from those of these modules."""
    note_seeds()
    watched = WatchedDraws(positions(modules) if modules else {})
    _of_thread.draws = watched
    try:
        yield watched
    finally:
        _of_thread.draws = None
        watched.note_draws(watched.before.keys() - watched.seeded)


def note_seeds() -> None:
    """Replace the functions that seed a global generator, once a process that runs tasks."""
    with _installing:
        if "numpy" in sys.modules:
            importlib.import_module(MTRAND)
        for module, owners in {NUMPY: (NUMPY, MTRAND), "random": ("random",)}.items():
            seed = getattr(sys.modules.get(module), "seed", None)
            if seed is not None and not hasattr(seed, _MARK):
                noting = _noting(seed, module)
                for owner in owners:
                    sys.modules[owner].seed = noting  # type: ignore[attr-defined]


def _noting(seed: Callable[..., Any], module: str) -> Callable[..., Any]:
    @wraps(seed)
    def noting(*arguments: Any, **keywords: Any) -> Any:
        watched: WatchedDraws | None = getattr(_of_thread, "draws", None)
        if watched is not None:
            watched.note_seed(module)
        return seed(*arguments, **keywords)

    noting.__module__, noting.__qualname__ = module, "seed"  # by which it is pickled
    setattr(noting, _MARK, True)
    return noting


def seeded_by(codes: Iterable[Any]) -> frozenset[str]:
    """Return the modules whose global generator these functions may seed, as far as their code tells."""
    found: set[str] = set()
    for code in codes:
        if isinstance(code, FunctionType):
            used = uses(code.__code__)
            if "seed" in used.words:
                found.update(_module_of(code, chain) for chain in used.chains if "seed" in chain)
                if _takes_seed(code.__code__):  # `import random` within the function
                    found.update(each.module for each in used.imports)
    if "numpy" in found:
        found.add(NUMPY)
    return frozenset(found & SEEDING.keys())


def _takes_seed(code: CodeType) -> bool:
    """Return whether code, or code within it, takes an attribute `seed` or imports such a name."""
    steps = dis.get_instructions(code)
    if any(step.argval == "seed" and step.opname in {*ATTRIBUTE, "IMPORT_FROM"} for step in steps):
        return True
    return any(_takes_seed(each) for each in code.co_consts if isinstance(each, CodeType))


def _module_of(function: FunctionType, chain: tuple[str, ...]) -> str:
    """Return the module whose `seed` this is, by the name that a function has for it; empty for any other object."""
    try:
        value = function.__globals__[chain[0]]
        found = operator.attrgetter(".".join(chain[1:]))(value) if chain[1:] else value
    except (AttributeError, KeyError):
        return ""
    return next((name for name in SEEDING if found is getattr(sys.modules.get(name), "seed", None)), "")


def states(modules: Iterable[str]) -> dict[str, Any]:
    """Return the states of the global generators of these modules."""
    found: dict[str, Any] = {}
    for module in modules:
        if module == NUMPY and (numpy := sys.modules.get(MTRAND)) is not None:
            found[module] = numpy._rand.get_state(legacy=True)
        elif module == "random" and (random := sys.modules.get("random")) is not None:
            found[module] = random.getstate()
    return found


def continue_from(after: dict[str, Any]) -> None:
    """Let the global generators of this process continue from these states, as ones that the program has seeded."""
    if not after:
        return
    import random

    import numpy as np

    for module, state in after.items():
        if module == NUMPY:
            np.random.seed(0)
            np.random.set_state(state)
        else:
            random.setstate(state)
