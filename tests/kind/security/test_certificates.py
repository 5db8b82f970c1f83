"""Only clients with the run's certificate can connect to the scheduler."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from distributed.comm.core import CommClosedError
from support.attacker_probe import IN
from support.forged_certificates import FORGED

Row = Callable[..., None]


@pytest.mark.parametrize("certificate", FORGED)
def test_scheduler_rejects_connections_without_its_certificate(
    responses_by_certificate: dict[str, str], certificate: str, security_row: Row
) -> None:
    assert responses_by_certificate["its own"].startswith(IN)
    response = responses_by_certificate[certificate]
    assert response.startswith("refused: "), response
    if certificate.startswith("an expired"):
        assert "expired" in response
    security_row("only the run's certificate opens the scheduler", f"TLS with {certificate}", response, "yes")


def test_scheduler_rejects_connections_without_tls(
    responses_without_tls: tuple[str, Exception], security_row: Row
) -> None:
    response, error = responses_without_tls
    assert response.startswith("refused: "), response
    assert type(error) in (OSError, CommClosedError)
    security_row("the scheduler speaks nothing but TLS", "a Dask client at tcp://…:8786", response, "yes")
