"""The arguments of `skjob.cluster` and `skjob.Cluster`, and what an interrupt leaves."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import skjob
from skjob.config.settings import WorkerRange
from skjob.engine.checkpoint.fit_counts import FitCounts
from skjob.errors import ConfigError, frames_of_program
from skjob.interactive.session import Session, as_range, interrupted

pytestmark = pytest.mark.unit


def test_both_take_the_same_options() -> None:
    declared, taken = inspect.signature(skjob.cluster), inspect.signature(skjob.Cluster)
    assert list(taken.parameters.values()) == list(declared.parameters.values())


def test_an_argument_that_is_not_there() -> None:
    with pytest.raises(TypeError, match="nonesuch"):
        skjob.Cluster(nonesuch=1)  # type: ignore[call-arg]


def test_a_wrong_argument_is_an_error_before_anything_starts() -> None:
    with pytest.raises(ConfigError) as caught:
        skjob.Cluster(workers=-1, on="local")
    assert caught.value.message == "`workers=` must be a number of workers, `4`, or a range, `1:20`, not `-1`"


@pytest.mark.parametrize(
    ("workers", "meant"), [(4, WorkerRange(4, 4)), ("1:20", WorkerRange(1, 20)), ((0, 3), WorkerRange(0, 3))]
)
def test_numbers_of_workers(workers: int | str | tuple[int, int], meant: WorkerRange) -> None:
    assert as_range(workers) == meant


def test_what_is_no_number_of_workers() -> None:
    with pytest.raises(ConfigError) as caught:
        as_range("many")
    assert caught.value.message == "`workers` must be a number of workers, `4`, or a range, `1:20`, not `many`"


def test_one_that_never_opened_has_no_client_and_no_workers_and_closes() -> None:
    session = Session({})
    with pytest.raises(ConfigError, match="is closed"):
        _ = session.client
    with pytest.raises(ConfigError, match="is closed"):
        session.scale(2)
    session.close()
    session.close()


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (None, None, 'interrupted; no fits are saved: `checkpoint=".skjob/fits"` saves them'),
        (None, FitCounts(fits=9), "interrupted; no fits are saved"),
        (None, FitCounts(fits=9, kept=3, found=2), "interrupted; 5 fits are saved: run it again for the rest"),
        (
            FitCounts(fits=40, kept=40),
            FitCounts(fits=60, kept=43, repeated=4),
            "interrupted; 7 fits are saved: run it again for the rest",
        ),
        (
            None,
            FitCounts(fits=9, kept=3, kept_unseeded=3),
            "interrupted; no fits are saved; 3 without `random_state` are done again",
        ),
        (
            None,
            FitCounts(fits=9, kept=3, kept_unseeded=1),
            "interrupted; 2 fits are saved: run it again for the rest; 1 without `random_state` are done again",
        ),
    ],
)
def test_an_interrupt_says_what_is_saved(before: FitCounts | None, now: FitCounts | None, line: str) -> None:
    assert interrupted(before, now) == line


def test_a_traceback_ends_where_skjob_begins() -> None:
    def mine() -> None:
        with skjob.cluster(workers=-1, on="local"):
            pass

    with pytest.raises(ConfigError) as caught:
        mine()
    shown = frames_of_program(caught.value.__traceback__)
    names = []
    while shown is not None:
        names.append(shown.tb_frame.f_code.co_name)
        shown = shown.tb_next
    assert names == ["test_a_traceback_ends_where_skjob_begins", "mine"]
    assert frames_of_program(None) is None


def test_importing_skjob_imports_neither_ipython_nor_what_shows_a_cluster() -> None:
    program = "import sys, skjob; print([name for name in sys.modules if name.startswith(('IPython', 'skjob.'))])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_open_closes_while_the_process_can_still_start_threads() -> None:
    """The removal of a cluster on Kubernetes makes requests in threads; with `atexit` they would be refused."""
    program = """
from concurrent.futures import ThreadPoolExecutor
from skjob.interactive import session

class Open:
    def __init__(self, name):
        self.name = name

    def close_at_exit(self):
        with ThreadPoolExecutor() as pool:
            print(pool.submit(str.upper, self.name).result())

session._close_at_exit(Open("first"))
session._close_at_exit(Open("second"))
raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "SECOND\nFIRST\n", done.stderr
    assert done.stderr.endswith("\nKeyboardInterrupt\n")
