"""Which environment variables code reads by name."""

import os
from collections.abc import Callable
from os import environ, getenv
from types import CodeType
from typing import Any

import pytest

from skjob.engine.fidelity.settings.variables import Reads, aliases_in, is_workers_own, reads

NAME = "A_GLOBAL"
NUMBER = 3
alias = os.environ


def _reads(function: Callable[..., Any]) -> Reads:
    return reads(function.__code__, aliases_in(globals())).resolved(globals())


def _in_a_nested_function() -> Callable[[], str]:
    def inner() -> str:
        return os.environ["INNER"]

    return inner


def _imports_itself() -> Any:
    import os as system

    return system.environ.get("X")


def _deletes() -> None:
    del os.environ["X"]


def _keeps_it() -> Any:
    kept = os.environ
    return kept["X"]


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda: os.environ["X"], {"X"}),
        (lambda: os.environ.get("X", "none"), {"X"}),
        (lambda: os.environ.setdefault("X", "none"), {"X"}),
        (lambda: os.getenv("X"), {"X"}),
        (lambda: os.getenvb(b"X"), {"X"}),
        (lambda: "X" in os.environ, {"X"}),
        (lambda: "X" not in environ, {"X"}),
        (lambda: environ["X"] + getenv("Y", "z"), {"X", "Y"}),
        (lambda: alias["X"], {"X"}),
        (lambda: os.environ[NAME], {"A_GLOBAL"}),
        (lambda: NAME in os.environ, {"A_GLOBAL"}),
        (lambda: os.environ.get("X", NAME), {"X"}),
        (lambda: os.environ["X"] + f"{NUMBER}", {"X"}),
        (lambda: [os.environ["X"] for _ in range(3)], {"X"}),
        (_in_a_nested_function, {"INNER"}),
        (_imports_itself, {"X"}),
        (_deletes, {"X"}),
        (lambda: os.environ.update({"X": "1"}), set()),
        (lambda: os.path.join("X", "Y"), set()),  # noqa: PTH118
    ],
)
def test_names(function: Callable[..., Any], names: set[str]) -> None:
    assert _reads(function) == Reads(frozenset(names))


@pytest.mark.parametrize(
    "function",
    [
        lambda name: os.environ[name],
        lambda name: os.getenv(f"MY_{name}"),
        lambda name: os.environ["MY_" + name],
        lambda: os.environ["x".upper()],
        lambda name: name in os.environ,
        lambda: dict(os.environ),
        lambda: os.environ.items(),
        lambda: os.environ[NUMBER],  # type: ignore[index]
        _keeps_it,
    ],
)
def test_names_made_at_run_time(function: Callable[..., Any]) -> None:
    assert _reads(function).dynamic


@pytest.mark.parametrize("text", ["from os import environ as e\ne['X']", "import os\ne = os.environ\ne['X']"])
def test_another_name_for_the_environment(text: str) -> None:
    code = compile(text, "m", "exec")
    assert reads(code, frozenset({"e"})) == Reads(frozenset({"X"}))
    assert reads(code).dynamic


def test_module_code_is_read_too() -> None:
    code: CodeType = compile("import os\nSCALE = os.environ['SCALE']\nclass A:\n    b = os.getenv('B')\n", "m", "exec")
    assert reads(code).names == {"SCALE", "B"}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("PATH", True), ("HOME", True), ("TMPDIR", True), ("LD_PRELOAD", True), ("PYTHONPATH", True),
        ("OMP_NUM_THREADS", True), ("DASK_TEMPORARY_DIRECTORY", True), ("KUBERNETES_SERVICE_HOST", True),
        ("SKJOB_WORKERS", True), ("MYPROJECT_SCALE", False), ("AWS_REGION", False), ("HOME_PAGE", False),
    ],
)  # fmt: skip
def test_which_are_a_workers_own(name: str, own: bool) -> None:
    assert is_workers_own(name) is own
