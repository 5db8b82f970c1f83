"""When a notebook gets an output, and when that changes. The notebook is a list of what it was sent."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from live_states import fits, search

from skjob.deploy.base import WorkerCounts
from skjob.engine.events import CallFinished
from skjob.interactive.notebook import Bundle, NotebookView, is_kernel
from skjob.interactive.observer import ClusterObserver, ClusterState, Status

pytestmark = pytest.mark.unit


class Output:
    """An output, as IPython's `display` returns it: all that it has shown."""

    def __init__(self, content: Bundle) -> None:
        self.shown = [content]

    def update(self, content: Bundle, *, raw: bool) -> None:
        assert raw
        self.shown.append(content)

    @property
    def text(self) -> str:
        return self.shown[-1]["text/plain"]


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[Output]:
    found: list[Output] = []

    def display(content: Bundle, *, raw: bool, display_id: bool) -> Output:
        assert raw
        assert display_id
        found.append(Output(content))
        return found[-1]

    module = ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


@pytest.fixture
def view(outputs: list[Output]) -> Iterator[NotebookView]:
    opened = NotebookView(ClusterState(name="a"))
    opened._thread.stop()  # the tests refresh
    yield opened
    opened.close()


def test_a_card_changes_with_the_cluster_and_only_then(outputs: list[Output]) -> None:
    state = ClusterState(name="a")
    view = NotebookView(state)
    view._thread.stop()
    observer = ClusterObserver(state, view)
    (card,) = outputs
    with observer.step("connect"):
        view.refresh()
        view.refresh()
        assert card.text == "skjob cluster a: starting: connect"
    assert len(card.shown) == 2
    observer.set_status(Status.READY)
    observer.workers(WorkerCounts(2, 2, 1))
    view.refresh()
    assert card.text == "skjob cluster a: ready\n  workers: 1 of 2, 1 starting"
    view.close()
    assert len(card.shown) == 3


def test_a_line_is_shown_once_and_without_passwords(view: NotebookView, outputs: list[Output]) -> None:
    state = view._state
    observer = ClusterObserver(state, view)
    for _ in range(2):
        observer.notify("no room at s3://ann:secret@host")
    assert state.notes == ["no room at s3://ann:****@host"]


def test_a_cluster_that_is_lost_says_so(view: NotebookView) -> None:
    observer = ClusterObserver(view._state, view)
    observer.set_status(Status.READY)
    observer.notify("a worker is late")
    assert view._state.status == "ready"
    observer.is_lost = lambda: True
    observer.notify("the scheduler is gone")
    assert view._state.status == "lost"
    assert "lost" in view.bundle()["text/html"]


def test_the_first_call_of_a_cell_gives_it_an_output(view: NotebookView, outputs: list[Output]) -> None:
    view.begin_cell()
    assert not view.cell_has_calls
    assert len(outputs) == 1
    for event in (search(), *fits(5)):
        view.event(event)
    view.refresh()
    assert view.cell_has_calls
    assert len(outputs) == 2
    assert "5 of 160 fits" in outputs[1].text
    view.event(search(2))
    assert len(outputs) == 2
    view.note("a worker is late")
    view.refresh()
    assert outputs[1].text.endswith("\na worker is late")


def test_each_cell_has_its_own_calls(view: NotebookView, outputs: list[Output]) -> None:
    for call in (1, 2):
        view.begin_cell()
        for event in (search(call), *fits(call * 5, call), CallFinished(call, 1070.0)):
            view.event(event)
        view.refresh()
    assert [output.text.count("of 160 fits") for output in outputs] == [0, 1, 1]
    assert "5 of 160 fits" in outputs[1].text
    assert "10 of 160 fits" in outputs[2].text
    before = len(outputs[1].shown)
    view.refresh()
    assert len(outputs[1].shown) == before


def test_a_call_of_an_earlier_cell_goes_on_in_its_output(view: NotebookView, outputs: list[Output]) -> None:
    """One that a thread of the program makes."""
    view.event(search())
    view.begin_cell()
    view.event(search(2))
    for event in fits(5):
        view.event(event)
    view.refresh()
    assert "5 of 160 fits" in outputs[1].text
    assert "0 of 160 fits" in outputs[2].text


def test_fits_without_a_call_show_nothing(view: NotebookView, outputs: list[Output]) -> None:
    for event in fits(2):
        view.event(event)
    assert len(outputs) == 1


def test_a_notebook_that_is_gone_hurts_nobody(view: NotebookView, outputs: list[Output]) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError

    outputs[0].update = broken  # type: ignore[method-assign]
    view._state.name = "b"
    view.refresh()


@pytest.mark.parametrize(("shell", "is_one"), [(None, False), (object(), False)])
def test_an_interpreter_is_no_kernel(shell: Any, is_one: bool) -> None:
    assert is_kernel(shell) is is_one


def test_a_shell_with_a_kernel_is_one() -> None:
    class Shell:
        kernel = object()

    assert is_kernel(Shell())
