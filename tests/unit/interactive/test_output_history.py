"""What IPython forgets of a cluster that it has shown. The shell has what IPython's own has of these."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from skjob.interactive.output_history import forget_shown
from skjob.interactive.session import Session

pytestmark = pytest.mark.unit


class Shell:
    """A shell that has shown these values, one after the other."""

    def __init__(self, *shown: Any, **variables: Any) -> None:
        results = dict(enumerate(shown, 1))
        last = dict(zip(("_", "__", "___"), [*reversed(shown), "", "", ""][:3], strict=True))
        numbered = {f"_{number}": value for number, value in results.items()}
        self.user_ns: dict[str, Any] = {"_oh": results, "Out": results, **last, **numbered, **variables}
        self.user_ns_hidden: dict[str, Any] = {**last, **numbered}
        self.displayhook = SimpleNamespace(**last)
        self.last_execution_result = SimpleNamespace(result=shown[-1])


def test_a_value_that_a_variable_holds_is_forgotten_and_no_other() -> None:
    cluster, other = object(), object()
    shell = Shell(cluster, other, cluster, cluster=cluster)
    forget_shown(shell, cluster)
    assert shell.user_ns == {
        "_oh": {2: other}, "Out": {2: other}, "_": "", "__": other, "___": "", "_2": other, "cluster": cluster,
    }  # fmt: skip
    assert shell.user_ns_hidden == {"_": "", "__": other, "___": "", "_2": other}
    assert vars(shell.displayhook) == {"_": "", "__": other, "___": ""}
    assert shell.last_execution_result is None


def test_a_value_that_only_ipython_holds_is_left() -> None:
    cluster = object()
    shell = Shell(cluster)
    forget_shown(shell, cluster)
    assert shell.user_ns["_oh"] == {1: cluster}
    assert shell.user_ns["_"] is shell.displayhook._ is shell.user_ns["_1"] is cluster


def test_what_the_user_calls_by_a_name_of_ipythons_stays() -> None:
    cluster, value = object(), object()
    shell = Shell(cluster, cluster=cluster)
    shell.user_ns |= {"_": value, "_1": value}
    forget_shown(shell, cluster)
    assert shell.user_ns["_"] is shell.user_ns["_1"] is value
    assert shell.displayhook._ == ""


def test_the_end_of_a_cell_is_when_it_is_forgotten() -> None:
    cluster = object()
    shell = Shell(cluster, cluster=cluster)
    session = Session({})
    session._shell = shell
    session._view = SimpleNamespace(refresh=lambda: None)  # type: ignore[assignment]
    session.shown_as = lambda: cluster
    session._end_cell()
    assert shell.user_ns["_oh"] == {}
