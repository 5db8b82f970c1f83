"""The errors a user can meet: one exit status each, all documented, none of them a script's or a signal's."""

import re

import pytest

from skjob import errors
from skjob.errors import INTERNAL_FAULT, INTERRUPTED, TERMINATED, ConfigError, SkjobError

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SkjobError) and kind is not SkjobError
    ),
    key=lambda kind: kind.exit_code,
)


def test_each_error_has_an_exit_status_of_its_own() -> None:
    assert [kind.exit_code for kind in KINDS if kind.__base__ is SkjobError] == list(range(120, 128))


def test_a_kind_of_an_error_ends_as_it_does() -> None:
    assert [kind.exit_code for kind in KINDS] == [kind.mro()[-5].exit_code for kind in KINDS]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    documented = re.findall(r"[├└]── (\w+) +(\d+) ", errors.__doc__ or "")
    assert documented == [(kind.__name__, str(kind.exit_code)) for kind in KINDS]


def test_faults_and_signals_end_as_documented() -> None:
    assert (INTERNAL_FAULT, INTERRUPTED, TERMINATED) == (127, 128 + 2, 128 + 15)
    assert SkjobError("x").exit_code == INTERNAL_FAULT


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_its_message_and_its_hint(kind: type[SkjobError]) -> None:
    error = kind("no `x`", "make one")
    assert (error.message, error.hint, str(error)) == ("no `x`", "make one", "no `x`\nhint: make one")
    assert str(kind("no `x`")) == "no `x`"


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        (["`a` is wrong"], "`a` is wrong"),
        (["`b` is wrong", "`a` is wrong"], "2 problems:\n  - `b` is wrong\n  - `a` is wrong"),
    ],
)
def test_problems_are_collected_in_the_order_found(problems: list[str], message: str) -> None:
    error = ConfigError.collect(problems, "mend them")
    assert (error.message, error.hint, error.exit_code) == (message, "mend them", 120)
