"""What is reported to a user about the fits of a run."""

from __future__ import annotations

import pytest

from skjob.engine.checkpoint.fit_counts import FitCounts

DONE_BEFORE = "reused 3 of 9 fits from an earlier run"


@pytest.mark.parametrize(
    ("tally", "lines"),
    [
        (FitCounts(fits=9, found=3, kept=4), ["saved 7 fits; run the same command again for the rest", DONE_BEFORE]),
        (
            FitCounts(fits=9, found=3, kept=6),
            ["all 9 fits so far are saved; the same command does not repeat them", DONE_BEFORE],
        ),
        (
            FitCounts(fits=9, repeated=2, kept=7),
            ["all 7 fits so far are saved; the same command does not repeat them"],
        ),
        (
            FitCounts(fits=9, kept=6, kept_unseeded=2),
            [
                (
                    "saved 6 fits; run the same command again for the rest;"
                    " with `--resume` also those that have no `random_state`"
                )
            ],
        ),
        (FitCounts(fits=9), []),
    ],
)
def test_where_a_program_has_failed(tally: FitCounts, lines: list[str]) -> None:
    assert tally.lines(finished=False) == lines


def test_a_program_that_has_ended_hears_of_what_was_found() -> None:
    assert FitCounts(fits=9, found=3, kept=6).lines() == [DONE_BEFORE]
