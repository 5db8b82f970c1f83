"""Objects of a run, as the API lists them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from skjob.deploy.kubernetes.manifests.labels import RunNames

Manifest = dict[str, Any]

NAMES = RunNames("20261123-155901-3f9a1c", "train.py", "Ann Lee")
OTHERS = RunNames("20261123-120000-bbbbbb", "other.py", "bob")
NOW = datetime(2026, 11, 23, 16, 10, tzinfo=UTC)


def item(component: str, name: str = NAMES.cluster, run: RunNames = NAMES, **fields: Any) -> Manifest:
    """An object of a run, as a list returns it."""
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-11-23T16:00:00Z",
        "labels": run.labels(component),
        "annotations": run.annotations(),
        **fields.pop("metadata", {}),
    }
    return {"metadata": metadata, **fields}


def anchor(run: RunNames = NAMES, **metadata: Any) -> Manifest:
    spec, status = {"activeDeadlineSeconds": 900}, {"startTime": "2026-11-23T16:00:01Z"}
    return item("anchor", run.cluster, run, spec=spec, status=status, metadata=metadata)


def dask(role: str, kind: str = "pod", phase: str = "Running", **metadata: Any) -> Manifest:
    found = item(kind, f"{NAMES.cluster}-{role}", status={"phase": phase}, metadata=metadata)
    found["metadata"]["labels"]["dask.org/component"] = role
    return found
