"""What is left of a run in the tests' cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory.runs import DERIVED_KINDS, RUN_KINDS
from support.namespaces import GONE_SECONDS

FIRST_LOOK_SECONDS = 5.0
"""Seconds after which the table of leftovers tells what is left."""

GRACE = 20
"""Seconds for which a run outlives its client, where a test waits for its anchor's end."""


def counted(left: list[str]) -> str:
    """For the table."""
    return f"{len(left)} objects" if left else "nothing"


def leftovers(api: Api, run_id: str) -> list[str]:
    """As `Pod/name`. Events are not counted: Kubernetes keeps them for an hour."""
    return sorted(_found(api, run_id))


def _found(api: Api, run_id: str) -> Iterator[str]:
    selector = f"app.kubernetes.io/managed-by=skjob,skjob/run={run_id}"
    for kind in RUN_KINDS + DERIVED_KINDS:
        for item in api.list(kind, api.context.namespace, selector=selector):
            yield f"{kind}/{item['metadata']['name']}"


def until_gone(api: Api, run_id: str, at_most: float = GONE_SECONDS) -> tuple[list[str], float]:
    """What was left after `FIRST_LOOK_SECONDS`, and the seconds until nothing was."""
    began = time.monotonic()
    soon: list[str] | None = None
    while any(_found(api, run_id)):  # one object is enough, and the anchor is the first to be asked for
        passed = time.monotonic() - began
        assert passed < at_most, f"still exist after {at_most:.0f} s: {leftovers(api, run_id)}"
        if soon is None and passed >= FIRST_LOOK_SECONDS:
            soon = leftovers(api, run_id)
        time.sleep(0.2)
    return soon or [], time.monotonic() - began
