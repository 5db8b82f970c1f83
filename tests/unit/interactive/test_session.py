"""The arguments of `skjob.cluster` and `skjob.Cluster`, and what an interrupt leaves."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import skjob
from skjob.config.settings import WorkerRange
from skjob.deploy.dashboard import Pages
from skjob.engine.checkpoint.fit_counts import FitCounts
from skjob.errors import CleanupFailed, ConfigError, frames_of_program
from skjob.interactive import session as sessions
from skjob.interactive.lines import LinesView
from skjob.interactive.observer import ClusterObserver, ClusterState
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


class Opening:
    """Opens clusters that are not there, and keeps in `told` what happens to each."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.error_at_close: Exception | None = None

    @contextmanager
    def __call__(self, job: Any, requested: Any, options: Any, observer: Any, report: Any) -> Iterator[Any]:
        name = options.cluster or "its own"
        namespace = requested.settings.namespace or "team-a"
        api = SimpleNamespace(context=SimpleNamespace(name="lab", namespace=namespace))
        self.told.append(f"open {name}")
        yield SimpleNamespace(
            cluster=SimpleNamespace(name=name), client=object(), fit_counts=None, monitor=SimpleNamespace(lost=None),
            connection=SimpleNamespace(workers=None, run=SimpleNamespace(target=SimpleNamespace(api=api))),
            plan=SimpleNamespace(
                why="running on a cluster", place="kubernetes",
                size=SimpleNamespace(cpu=1, threads=1, memory=2**30, gpus=0),
            ),
        )  # fmt: skip
        self.told.append(f"close {name}")
        if self.error_at_close is not None:
            raise self.error_at_close


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    found = Opening()
    monkeypatch.setattr(sessions, "open_cluster", found)
    yield found
    assert sessions._open == []


def test_a_cell_that_is_run_again_closes_the_cluster_of_that_name_before_it_opens_it(opening: Opening) -> None:
    first = skjob.Cluster(name="anna")
    other = skjob.Cluster(name="bea")
    elsewhere = skjob.Cluster(name="anna", namespace="team-b")
    second = skjob.Cluster(name="anna", context="lab", namespace="team-a")
    assert opening.told == ["open anna", "open bea", "open anna", "close anna", "open anna"]
    assert [each.status for each in (first, other, elsewhere, second)] == ["closed", "ready", "ready", "ready"]
    for each in (first, other, elsewhere, second):
        each.close()


def test_clusters_without_a_name_are_each_their_own(opening: Opening) -> None:
    first, second = skjob.Cluster(), skjob.Cluster()
    assert opening.told == ["open its own"] * 2
    first.close()
    second.close()


def test_the_cluster_of_a_block_is_not_taken_over(opening: Opening) -> None:
    """What is left of the block would run on this machine, without a word."""
    with skjob.cluster(name="anna"):
        skjob.Cluster(name="anna").close()
    with skjob.Cluster(name="anna"):
        skjob.Cluster(name="anna").close()
    assert opening.told == ["open anna", "open anna", "close anna", "close anna"] * 2
    kept = skjob.Cluster(name="anna")
    with skjob.cluster(name="anna"):
        assert kept.status == "ready"
    kept.close()


def test_what_a_cluster_leaves_that_nobody_refers_to_any_more_is_told(
    opening: Opening, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = skjob.Cluster(name="anna")
    opening.error_at_close = CleanupFailed("`anna` is not removed", "remove it: `skjob down anna`")
    del kept
    gc.collect()
    assert capsys.readouterr().err == "skjob: error: `anna` is not removed\nhint: remove it: `skjob down anna`\n"


def test_an_interrupt_after_the_start_closes_what_has_started(
    opening: Opening, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_describe", interrupt)
    opening.error_at_close = CleanupFailed("`anna` is not removed", "remove it: `skjob down anna`")
    session = Session({"name": "anna"})
    with pytest.raises(KeyboardInterrupt):
        session.open()
    assert opening.told == ["open anna", "close anna"]
    assert session.state.status == "not started"
    assert "skjob: error: `anna` is not removed\nhint: remove it: `skjob down anna`\n" in capsys.readouterr().err
    session.close()


def test_each_interrupt_says_what_is_saved(capsys: pytest.CaptureFixture[str]) -> None:
    session = Session({})
    session._view = LinesView(session.state)
    session._view.cell_has_calls = True
    session._observer = ClusterObserver(session.state, session._view)
    for _ in range(2):
        session._begin_cell()
        session._end_cell(SimpleNamespace(error_in_exec=KeyboardInterrupt()))
    line = 'interrupted; no fits are saved: `checkpoint=".skjob/fits"` saves them'
    assert capsys.readouterr().err == f"skjob: {line}\n" * 2
    assert session.state.notes == [line]


def test_a_cluster_that_is_lost_has_no_link() -> None:
    state = ClusterState(sessions.Status.READY, link="http://127.0.0.1:4321/status")
    observer = ClusterObserver(state, LinesView(state))
    observer.is_lost = lambda: True
    observer.notify("the scheduler is gone")
    assert (state.status, state.link) == ("lost", "")


@pytest.mark.parametrize(
    ("pages", "link"),
    [
        (Pages.DASHBOARD, "http://127.0.0.1:4321/status"),
        (Pages.SILENT, "http://127.0.0.1:4321/status"),
        (Pages.WITHOUT_BOKEH, ""),
    ],
)
def test_a_scheduler_that_is_busy_keeps_its_link(
    pages: Pages, link: str, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([Pages.DASHBOARD, pages])
    monkeypatch.setattr(sessions, "pages_at", lambda port: next(seen))
    monkeypatch.setattr(sessions, "link_to", lambda port, form: f"http://127.0.0.1:{port}/status")
    with skjob.Cluster() as cluster:
        cluster._session._opened.cluster.dashboard_port = lambda: 4321
        assert cluster.dashboard_link == "http://127.0.0.1:4321/status"
        assert cluster.dashboard_link == link
        assert cluster._session.state.link == link


def test_a_block_that_is_never_entered_says_so(opening: Opening) -> None:
    with pytest.warns(RuntimeWarning, match=r"not started: write `with skjob\.cluster\(\.\.\.\):`"):
        skjob.cluster(4)
    made = skjob.cluster(name="anna")
    assert repr(made) == f"skjob cluster: {skjob.NOT_STARTED}"
    with pytest.raises(AttributeError, match=r"has no `scale`: not started: write `with"):
        made.scale(4)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with made:
            assert repr(made).startswith("skjob cluster anna: ready")
            with pytest.raises(RuntimeError, match="is open already"), made:
                pass
        with made:
            pass
        del made
        gc.collect()
    assert opening.told == ["open anna", "close anna"] * 2


def test_a_block_that_an_interrupt_has_kept_from_beginning_closes_its_cluster(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Session) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "begin_block", interrupt)
    with pytest.raises(KeyboardInterrupt), skjob.cluster(name="anna"):
        pass
    gc.collect()
    assert opening.told == ["open anna", "close anna"]


def test_at_the_end_of_a_program_nothing_is_said_of_a_block_that_was_never_entered() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import skjob; made = skjob.cluster()"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_a_block_can_be_that_of_a_function(opening: Opening) -> None:
    @skjob.cluster(name="anna")  # type: ignore[operator]
    def train(times: int) -> int:
        opening.told.append("train")
        return times + 1

    assert [train(1), train(2)] == [2, 3]
    assert opening.told == ["open anna", "train", "close anna"] * 2


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

session._register(Open("first"))
session._register(Open("second"))
raise KeyboardInterrupt
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "SECOND\nFIRST\n", done.stderr
    assert done.stderr.endswith("\nKeyboardInterrupt\n")
