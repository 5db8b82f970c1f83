"""What a user is told of the fits of a run."""

from __future__ import annotations

import pytest

from skjob.engine.checkpoint.counts import Tally

DONE_BEFORE = "3 of 9 fits were finished before, and not done again"


@pytest.mark.parametrize(
    ("tally", "told"),
    [
        (Tally(fits=9, found=3, kept=4), ["7 fits are kept: the same command does the rest", DONE_BEFORE]),
        (
            Tally(fits=9, found=3, kept=6),
            ["all 9 fits so far are finished: the same command does not do them again", DONE_BEFORE],
        ),
        (
            Tally(fits=9, repeated=2, kept=7),
            ["all 7 fits so far are finished: the same command does not do them again"],
        ),
        (
            Tally(fits=9, kept=6, kept_unseeded=2),
            ["6 fits are kept: the same command does the rest; with `--resume` also those that have no `random_state`"],
        ),
        (Tally(fits=9), []),
    ],
)
def test_where_a_program_has_failed(tally: Tally, told: list[str]) -> None:
    assert tally.lines(finished=False) == told


def test_a_program_that_has_ended_hears_of_what_was_found() -> None:
    assert Tally(fits=9, found=3, kept=6).lines() == [DONE_BEFORE]
