"""Who gets in: nobody without the run's certificate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from distributed.comm.core import CommClosedError
from support.attacker_probe import IN
from support.forged_certificates import FORGED

Row = Callable[..., None]


@pytest.mark.parametrize("shown", FORGED)
def test_the_scheduler_lets_nobody_in_without_its_certificate(
    by_certificate: dict[str, str], shown: str, security_row: Row
) -> None:
    assert by_certificate["its own"].startswith(IN)
    told = by_certificate[shown]
    assert told.startswith("refused: "), told
    if shown.startswith("an expired"):
        assert "expired" in told
    security_row("only the run's certificate opens the scheduler", f"TLS with {shown}", told, "yes")


def test_the_scheduler_speaks_nothing_but_tls(in_plain_text: tuple[str, Exception], security_row: Row) -> None:
    told, error = in_plain_text
    assert told.startswith("refused: "), told
    assert type(error) in (OSError, CommClosedError)
    security_row("the scheduler speaks nothing but TLS", "a Dask client at tcp://…:8786", told, "yes")
