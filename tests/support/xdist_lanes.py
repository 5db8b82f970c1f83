"""Decide when tests of the cluster may run, with several processes (`pytest -n 3`).

Most tests use only their own namespace and mostly wait, so that several can run at once. A test that stops the operator
or a node (`whole_cluster`) waits until no other test is running, and none starts while it runs. Fixtures that outlive a
test, such as the run that all attacks use, must not overlap with those tests either: all of them are in one lane, which
one process runs in order.
"""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

WHOLE_CLUSTER = ("security", "test_chart.py", "test_faults.py", "test_leftovers.py", "test_outages.py")
USER_ENVIRONMENT = ("test_boosters.py", "test_environment.py", "test_examples.py", "test_larger.py")
"""Files whose tests need the same costly environment."""
SIDE_BY_SIDE = ("test_causes.py", "test_costs.py", "test_programs.py", "test_run.py", "test_up.py")
"""Files whose tests have their runs at the same time."""


def lane(test: str) -> str:
    """Return a test's lane, which one process runs in order. `test` is an id such as
    `tests/kind/test_run.py::test_…`."""
    file = test.partition("::")[0]
    parts = Path(file).parts
    for files in (WHOLE_CLUSTER, USER_ENVIRONMENT, SIDE_BY_SIDE):
        if "kind" in parts and set(files) & set(parts):
            return files[0]
    return file


def rank(test: str) -> int:
    """Return a test's place in the queue.

    Quick tests come first, and the lane with tests of the whole cluster before other kind tests, so that this long lane
    does not run alone at the end.
    """
    if lane(test) == WHOLE_CLUSTER[0]:
        return 1
    return {"unit": 0, "upstream": 2, "integration": 3, "browser": 3, "kind": 4}[Path(test).parts[1]]


def next_lanes(lanes: Sequence[str], *, cluster_is_ready: bool, taken: Collection[str] = ()) -> list[str]:
    """Return the order of the lanes that are left in the queue, for a process that has `taken` some before.

    Lanes that need the cluster wait at the end of the queue until it is ready. Then the longest lanes come first: that
    with tests of the whole cluster, and that of the costly environment. The lane of runs side by side follows in the
    process that had the tests of the whole cluster: in another one, each of the two would wait for the other.
    """
    if not cluster_is_ready:
        return sorted(lanes, key=_needs_cluster)
    follows = WHOLE_CLUSTER[0] in taken

    def place(name: str) -> int:
        if name == SIDE_BY_SIDE[0]:
            return 2 if follows else 4
        return {WHOLE_CLUSTER[0]: 0, USER_ENVIRONMENT[0]: 1}.get(name, 3)

    return sorted(lanes, key=place)


def _needs_cluster(name: str) -> bool:
    return name in (WHOLE_CLUSTER[0], USER_ENVIRONMENT[0], SIDE_BY_SIDE[0]) or "kind" in Path(name).parts


@contextmanager
def turn(item: pytest.Item, lock: Path) -> Iterator[None]:
    """Hold the lock during a test, exclusively for `whole_cluster`, else shared. A waiting test blocks later ones."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as file, lock.with_name(f"{lock.name}-door").open("a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_EX if item.get_closest_marker("whole_cluster") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
