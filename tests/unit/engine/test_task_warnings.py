"""Warnings noted on a worker and given again in the client."""

import threading
import warnings

import pytest

from skjob.engine.task_warnings import MAX_WARNINGS, TaskWarning, captured_warnings, restore_category, warn_again


class Own(UserWarning):
    """A category of this module's."""


class TakesTwo(UserWarning):
    """Can't be made from a text."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one, two)


def test_what_a_thread_warns_of_is_noted_and_others_are_not() -> None:
    seen: list[TaskWarning] = []

    def work() -> None:
        with captured_warnings() as noted:
            warnings.warn("of the task", Own, stacklevel=1)
        seen.extend(noted)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        thread = threading.Thread(target=work)
        with captured_warnings() as elsewhere:
            thread.start()
            thread.join()
    assert elsewhere == []
    assert [(each.text, each.module, each.category, each.file) for each in seen] == [
        ("of the task", __name__, "Own", __file__)
    ]


def test_there_is_a_limit() -> None:
    with warnings.catch_warnings(), captured_warnings() as noted:
        warnings.simplefilter("always")
        for number in range(MAX_WARNINGS + 5):
            warnings.warn(f"{number}", Own, stacklevel=1)
    assert len(noted) == MAX_WARNINGS


@pytest.mark.parametrize("source", [None, "some.module"])
def test_it_is_a_warning_again(source: str | None) -> None:
    """Also one from a file that is no module where it was given, such as a script."""
    with pytest.warns(Own, match="again") as caught:
        warn_again(TaskWarning("again", __name__, "Own", "/a/script.py", 7, source), {})
    assert [(each.filename, each.lineno) for each in caught] == [("/a/script.py", 7)]


def test_the_filters_here_decide() -> None:
    warned = TaskWarning("again", __name__, "Own", "/a/script.py", 7, "some.module")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Own)
        with pytest.raises(Own, match="again"):
            warn_again(warned, {})
        warnings.filterwarnings("ignore", module=r"some\.module")
        warn_again(warned, {})


def test_once_a_place_is_once() -> None:
    registry: dict[object, object] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for line in (7, 7, 8):
            warn_again(TaskWarning("again", __name__, "Own", "/a/script.py", line), registry)
    assert [each.lineno for each in caught] == [7, 8]


def test_a_category_that_is_made_in_another_way() -> None:
    with pytest.warns(UserWarning, match="TakesTwo: text"):
        warn_again(TaskWarning("text", __name__, "TakesTwo", "/a/script.py", 7), {})


def test_a_category_that_is_not_here() -> None:
    category = restore_category("no.such.module", "Strange")
    assert (category.__name__, category.__module__) == ("Strange", "no.such.module")
    assert issubclass(category, Warning)
