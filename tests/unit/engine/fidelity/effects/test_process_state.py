"""Settings of the process that a task changes."""

from __future__ import annotations

import decimal
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import pytest
import sklearn

from skjob.engine.fidelity.effects.process_state import changed_settings, process_state, restore


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda: os.chdir(".."), "os.chdir"),
        (lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1), "sys.setrecursionlimit"),
        (lambda: socket.setdefaulttimeout(3), "socket.setdefaulttimeout"),
        (lambda: pandas.set_option("display.precision", 3), "pd.set_option"),
    ],
)
def test_what_is_changed_of_the_process_is_named_and_set_back(
    change: Callable[[], None], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = process_state()
    change()
    changed = changed_settings(before, process_state())
    restore(before, changed)
    assert changed == (name,)
    assert changed_settings(before, process_state()) == ()


def test_what_is_changed_of_the_thread_is_named() -> None:
    before = process_state()
    with (
        numpy.errstate(divide="raise"),
        numpy.printoptions(precision=2),
        decimal.localcontext(prec=5),
        sklearn.config_context(transform_output="pandas"),
    ):
        names = {"np.seterr", "np.set_printoptions", "decimal.setcontext", "sklearn.set_config"}
        assert set(changed_settings(before, process_state())) == names


def test_calculations_change_nothing() -> None:
    before = process_state()
    decimal.Decimal(1) / 3
    numpy.array([1.0]) / 3
    assert changed_settings(before, process_state()) == ()


def test_the_first_import_of_a_library_changes_nothing() -> None:
    """What a task sets of a library that it is the first to import is seen all the same."""
    script = """
from skjob.engine.fidelity.effects.process_state import changed_settings, process_state, restore

before = process_state()
import pandas, sklearn, sys
print(*changed_settings(before, process_state()))
pandas.set_option("display.precision", 3)
sklearn.set_config(transform_output="pandas")
changed = changed_settings(before, process_state())
restore(before, changed)
print(*changed, pandas.get_option("display.precision"))
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "\nsklearn.set_config pd.set_option 6\n"
