"""Who sees what is secret: nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from support.victim_run import SECRET_VARIABLE, STORAGE_SECRET, VictimRun

Row = Callable[..., None]


def test_no_secret_is_to_be_seen(
    attacked: VictimRun, visible: dict[str, str], ended: tuple[list[str], str], security_row: Row
) -> None:
    """All that the API shows to whoever may not read Secrets, the logs, the arguments of processes here; then the
    record. That they are there at all is seen where they are used."""
    assert attacked.pod("scheduler")["metadata"]["name"] in visible["the API's objects"]
    assert attacked.name in visible["the API's objects"]
    assert "launcher.py" in visible["arguments on this machine"]
    workers, output = ended
    assert len(workers) == 2
    record = next((attacked.runs.folder / ".skjob").glob("runs/*/run.json")).read_text()
    for what, forms in attacked.secrets.items():
        for place, text in {**visible, "its output": output, "its record": record}.items():
            for form in forms:
                assert form not in text, f"{what} in {place}"
    digest = hashlib.sha256(STORAGE_SECRET.encode()).hexdigest()
    assert {seen["storage"] for seen in attacked.report["in workers"]} == {digest}
    digest = hashlib.sha256(SECRET_VARIABLE.encode()).hexdigest()
    assert {seen["variable"] for seen in attacked.report["in workers"]} == {digest}
    assert attacked.report["in the scheduler"]["variable"] == hashlib.sha256(b"").hexdigest()
    for what in attacked.secrets:
        security_row(
            "nothing secret where others may look",
            f"a search for {what} in objects, events, logs, arguments, output and record",
            "not found",
            "yes",
        )
