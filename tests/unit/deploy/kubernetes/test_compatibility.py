"""Test which clusters of another skjob may be used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skjob.deploy.kubernetes.compatibility import Skjob, check, starter_of, this_skjob
from skjob.errors import StartError

HERE = Skjob("0.2.0", "aaaa", 3)


@pytest.mark.parametrize(
    ("there", "understood"),
    [
        (HERE, True),
        (Skjob("0.1.0", "bbbb", 3), True),  # a release with the same messages
        (Skjob("0.1.0", "bbbb", 2), False),
        (Skjob("0.2.0", "bbbb", 3), False),  # a development version
        (Skjob("0.2.0", "aaaa", 2), True),  # whatever its version: it is the same source
    ],
)
def test_who_understands_whom(there: Skjob, understood: bool) -> None:
    assert HERE.understands(there) == there.understands(HERE) == understood


def test_an_anchor_says_who_has_made_it() -> None:
    assert starter_of(HERE.annotations()) == HERE
    assert starter_of(this_skjob().annotations()) == this_skjob()
    check("dev", HERE.annotations(), HERE)


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({}, "`dev` was started by an earlier skjob, which is not compatible with this one, 0.2.0"),
        (HERE.annotations() | {"skjob/messages": "many"}, "`dev` was started by an earlier skjob"),
        (Skjob("0.1.0", "bbbb", 2).annotations(), "`dev` was started by skjob 0.1.0, which"),
        (Skjob("0.1\x1b", "bbbb", 2).annotations(), "`dev` was started by skjob 0.1?, which"),
        (replace(HERE, source="bbbb").annotations(), "`dev` was started by another build of skjob 0.2.0, which"),
    ],
)
def test_a_cluster_of_another_is_refused(annotations: dict[str, str], told: str) -> None:
    with pytest.raises(StartError, match="is not compatible with this one") as raised:
        check("dev", annotations, HERE)
    assert raised.value.message.startswith(told)
    assert raised.value.hint.startswith("`skjob down dev` removes it, and `skjob up dev` starts a new one")
