"""Whether the two ends speak the same language: the versions here and on the cluster, compared before work is sent.

Pure over what `distributed.Client.get_versions` gives. A difference that breaks pickles or protocols is an error; one
that may change numbers is worth a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skjob.environment.needs import differing, told
from skjob.errors import StartError

MUST_AGREE = ("dask", "distributed", "cloudpickle")
MAY_CHANGE_NUMBERS = ("scikit-learn", "numpy", "scipy", "joblib", "pandas")

Versions = Mapping[str, Any]


def check_versions(versions: Mapping[str, Any]) -> list[str]:
    """Differences that may change numbers, one line each.

    Raises:
        StartError: the cluster has another Python, or another version of what both ends must share.
    """
    client = _packages(versions["client"])
    peers = {"scheduler": versions["scheduler"], **versions["workers"]}
    serious: dict[str, None] = {}
    slight: dict[str, None] = {}
    for peer in peers.values():
        if peer is None:
            continue
        there = _packages(peer)
        for name in ("python", *MUST_AGREE, *MAY_CHANGE_NUMBERS):
            here, other = client.get(name), there.get(name)
            if here is None or other is None or _comparable(name, here) == _comparable(name, other):
                continue
            line = f"{name} {here} here, {other} on the cluster"
            (slight if name in MAY_CHANGE_NUMBERS else serious)[line] = None
    if serious:
        raise StartError(
            "the image does not match this environment: " + "; ".join(serious),
            "choose an image with the same versions, with `--image`, or leave it out for one made to match",
        )
    return [f"another version, which may give other numbers: {line}" for line in slight]


def check_pins(pins: Mapping[str, str], there: Mapping[str, str], cluster: str) -> None:
    """Compare this environment with that of a cluster which was there before.

    Raises:
        StartError: some versions differ; with all of them.
    """
    if different := differing(pins, there):
        raise StartError(
            f"the cluster `{cluster}` has another environment: {told(different, there)}",
            "leave it out to start one with this environment; or `--env none` takes it as it is",
        )


def _packages(peer: Versions) -> dict[str, str]:
    python = str(peer["host"]["python"])
    return {"python": python, **{name: version for name, version in peer["packages"].items() if version}}


def _comparable(name: str, version: str) -> str:
    """Python's last digit does not matter: its pickles and byte code are the same within a minor version."""
    return ".".join(version.split(".")[:2]) if name == "python" else version
