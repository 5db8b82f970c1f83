"""Who gets in: nobody without the run's certificate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import attack
import pytest
from attack import IN
from attacked import Attacked
from forged import FORGED

Row = Callable[..., None]


@pytest.mark.parametrize("shown", FORGED)
def test_the_scheduler_lets_nobody_in_without_its_certificate(
    attacked: Attacked, shown: str, security_row: Row
) -> None:
    folder = str(attacked.certificates / FORGED[shown]) if FORGED[shown] else ""
    assert attack.tls(*attacked.scheduler, str(attacked.certificates / "own")).startswith(IN)
    told = attack.tls(*attacked.scheduler, folder)
    assert told.startswith("refused: "), told
    if shown.startswith("an expired"):
        assert "expired" in told
    security_row("only the run's certificate opens the scheduler", f"TLS with {shown}", told, "yes")


def test_the_scheduler_speaks_nothing_but_tls(attacked: Attacked, security_row: Row) -> None:
    told = attack.plain(*attacked.scheduler)
    assert told.startswith("refused: "), told
    host, port = attacked.scheduler
    script = f"from distributed import Client; Client('tcp://{host}:{port}', timeout=4)"
    tried = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert tried.returncode == 1
    assert tried.stderr.splitlines()[-1].startswith(("OSError: ", "distributed.comm.core.CommClosedError: "))
    security_row("the scheduler speaks nothing but TLS", "a Dask client at tcp://…:8786", told, "yes")
