"""Secrets of a run are visible nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from support.victim_run import SECRET_VARIABLE, STORAGE_SECRET, VictimRun

Row = Callable[..., None]


def test_secrets_are_not_visible(
    attacked: VictimRun, visible_to_other_users: dict[str, str], ended: tuple[list[str], str], security_row: Row
) -> None:
    """No secret is in objects that users without access to Secrets can read, logs, process arguments, output or record.

    Tasks report digests of the secrets, which shows that the run has them.
    """
    assert attacked.pod("scheduler")["metadata"]["name"] in visible_to_other_users["the API's objects"]
    assert attacked.name in visible_to_other_users["the API's objects"]
    assert "launcher.py" in visible_to_other_users["arguments on this machine"]
    workers, output = ended
    assert len(workers) == 2
    record = next((attacked.runs.folder / ".skjob").glob("runs/*/run.json")).read_text()
    for what, forms in attacked.secrets.items():
        for place, text in {**visible_to_other_users, "its output": output, "its record": record}.items():
            for form in forms:
                assert form not in text, f"{what} in {place}"
    digest = hashlib.sha256(STORAGE_SECRET.encode()).hexdigest()
    assert {report["storage"] for report in attacked.report["in workers"]} == {digest}
    digest = hashlib.sha256(SECRET_VARIABLE.encode()).hexdigest()
    assert {report["variable"] for report in attacked.report["in workers"]} == {digest}
    assert attacked.report["in the scheduler"]["variable"] == hashlib.sha256(b"").hexdigest()
    for what in attacked.secrets:
        security_row(
            "nothing secret where others may look",
            f"a search for {what} in objects, events, logs, arguments, output and record",
            "not found",
            "yes",
        )
