"""What is left of a run in the tests' cluster."""

from __future__ import annotations

import time

from namespaces import GONE_SECONDS

from skjob.cluster.api import Api
from skjob.cluster.inventory import DERIVED_KINDS, RUN_KINDS

SOON = 5.0
"""Seconds after which the table of leftovers tells what is left."""


def leftovers(api: Api, run_id: str) -> list[str]:
    """As `Pod/name`. Events are not counted: Kubernetes keeps them for an hour."""
    selector = f"app.kubernetes.io/managed-by=skjob,skjob/run={run_id}"
    return sorted(
        f"{kind}/{item['metadata']['name']}"
        for kind in RUN_KINDS + DERIVED_KINDS
        for item in api.list(kind, api.context.namespace, selector=selector)
    )


def until_gone(api: Api, run_id: str, at_most: float = GONE_SECONDS) -> tuple[list[str], float]:
    """What was left after `SOON`, and the seconds until nothing was."""
    began = time.monotonic()
    soon: list[str] | None = None
    while left := leftovers(api, run_id):
        passed = time.monotonic() - began
        assert passed < at_most, f"still there after {at_most:.0f} s: {left}"
        if soon is None and passed >= SOON:
            soon = left
        time.sleep(0.2)
    return soon or [], time.monotonic() - began
