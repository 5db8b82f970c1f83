"""When a test of the cluster may run, as two processes run them (`pytest -n 2`).

Most keep to a namespace of their own and wait most of their time: two at once do no harm. One that takes the operator
away or stops a node (`whole_cluster`) waits until no other runs, and none begins beside it. What outlives a test, as
the run that all attacks are on, must not live beside those either: all of them are in one lane, which one process runs
in order.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

WHOLE_CLUSTER = ("security", "test_chart.py", "test_faults.py", "test_leftovers.py", "test_outages.py")
USER_ENVIRONMENT = ("test_boosters.py", "test_environment.py", "test_examples.py", "test_larger.py")
"""They need the same costly environment."""
SIDE_BY_SIDE = ("test_causes.py", "test_costs.py", "test_programs.py", "test_run.py", "test_up.py")
"""Their runs go on at the same time."""


def lane(test: str) -> str:
    """Tests of one lane are run by one process, in order. `test` is an id: `tests/kind/test_run.py::test_…`."""
    file = test.partition("::")[0]
    parts = Path(file).parts
    for files in (WHOLE_CLUSTER, USER_ENVIRONMENT, SIDE_BY_SIDE):
        if "kind" in parts and set(files) & set(parts):
            return files[0]
    return file


def rank(test: str) -> int:
    """Return where the test stands in the queue: quick ones first, those that may be alone on the cluster before others
    of the cluster, so that the long lane of these has company until its end."""
    if lane(test) == WHOLE_CLUSTER[0]:
        return 1
    return {"unit": 0, "upstream": 2, "integration": 3, "kind": 4}[Path(test).parts[1]]


def next_lanes(lanes: Sequence[str], *, cluster_is_there: bool) -> list[str]:
    """Return the order of what is left in the queue, at this moment.

    What needs the cluster waits for it at the end of the queue. As soon as it is there, the longest lanes come first:
    that of those that may be alone on it, and that of the costly environment.
    """
    if cluster_is_there:
        return sorted(lanes, key=lambda name: (name != WHOLE_CLUSTER[0], name != USER_ENVIRONMENT[0]))
    return sorted(lanes, key=_needs_cluster)


def _needs_cluster(name: str) -> bool:
    return name in (WHOLE_CLUSTER[0], USER_ENVIRONMENT[0], SIDE_BY_SIDE[0]) or "kind" in Path(name).parts


@contextmanager
def turn(item: pytest.Item, lock: Path) -> Iterator[None]:
    """The time in which the test may run. Who waits for it holds up those that come later: they wait at the door."""
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as file, lock.with_name(f"{lock.name}-door").open("a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(file, fcntl.LOCK_EX if item.get_closest_marker("whole_cluster") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
