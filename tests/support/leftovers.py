"""Find what is left of a run in the tests' cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.inventory.runs import DERIVED_KINDS, RUN_KINDS
from support.namespaces import GONE_SECONDS

FIRST_CHECK_SECONDS = 5.0
"""Seconds after which leftovers are counted for the table."""

GRACE = 20
"""Seconds that a run outlives its client, if a test waits for its anchor to end."""


def describe_count(remaining: list[str]) -> str:
    """Describe the number of leftovers for the table."""
    return f"{len(remaining)} objects" if remaining else "nothing"


def leftovers(api: Api, run_id: str) -> list[str]:
    """Return leftovers as `Pod/name`. Events are not included: Kubernetes keeps them for an hour."""
    return sorted(_list_leftovers(api, run_id))


def _list_leftovers(api: Api, run_id: str) -> Iterator[str]:
    selector = f"app.kubernetes.io/managed-by=skjob,skjob/run={run_id}"
    for kind in RUN_KINDS + DERIVED_KINDS:
        for item in api.list(kind, api.context.namespace, selector=selector):
            yield f"{kind}/{item['metadata']['name']}"


def wait_until_gone(api: Api, run_id: str, at_most: float = GONE_SECONDS) -> tuple[list[str], float]:
    """Wait until nothing is left; return what was left after `FIRST_CHECK_SECONDS`, and the seconds until all was
    gone."""
    began = time.monotonic()
    early: list[str] | None = None
    while any(_list_leftovers(api, run_id)):  # one object is enough, and the anchor is listed first
        elapsed = time.monotonic() - began
        assert elapsed < at_most, f"still exist after {at_most:.0f} s: {leftovers(api, run_id)}"
        if early is None and elapsed >= FIRST_CHECK_SECONDS:
            early = leftovers(api, run_id)
        time.sleep(0.2)
    return early or [], time.monotonic() - began
