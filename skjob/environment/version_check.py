"""Compare the versions here and on the cluster before any work is sent. Pure.

A difference that breaks pickles or protocols is an error; one that may change numbers is reported. `skjob doctor`
judges an image by the same rules as a run does its pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skjob.environment.pod.requirements import describe_mismatches, missing_pins
from skjob.errors import StartError
from skjob.utils.versions import PYTHON

MUST_AGREE = ("dask", "distributed", "cloudpickle")
MAY_CHANGE_NUMBERS = ("scikit-learn", "numpy", "scipy", "joblib", "pandas")
_SLIGHT_DIFFERENCE = "another version, which may change numbers"


def find_differences(local: Mapping[str, str], remote: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the names whose versions keep the two ends from working together, and those that may change numbers.

    A distribution that one end does not have is not compared.
    """
    serious: list[str] = []
    slight: list[str] = []
    for name in (PYTHON, *MUST_AGREE, *MAY_CHANGE_NUMBERS):
        if name in local and name in remote and _comparable(name, local[name]) != _comparable(name, remote[name]):
            (slight if name in MAY_CHANGE_NUMBERS else serious).append(name)
    return serious, slight


def check_versions(versions: Mapping[str, Any]) -> list[str]:
    """Return a line for each difference in `distributed.Client.get_versions` that may change numbers.

    Raises:
        StartError: the cluster has another Python, or another version of what both ends must share.
    """
    local = _packages(versions["client"])
    peers = {"scheduler": versions["scheduler"], **versions["workers"]}
    serious: dict[str, None] = {}
    slight: dict[str, None] = {}
    for peer in peers.values():
        if peer is None:
            continue
        remote = _packages(peer)
        for names, lines in zip(find_differences(local, remote), (serious, slight), strict=True):
            lines |= dict.fromkeys(_line(name, local, remote) for name in names)
    if serious:
        raise StartError(
            "the image does not match this environment: " + "; ".join(serious),
            "choose an image with the same versions, with `--image`, or omit it to get one that matches",
        )
    return [f"{_SLIGHT_DIFFERENCE}: {line}" for line in slight]


def check_installed(local: Mapping[str, str], remote: Mapping[str, str]) -> list[str]:
    """Return a line for each distribution whose version may change numbers, or that the image does not have.

    `get_versions` knows few distributions; scikit-learn is not among them.
    """
    missing = [name for name in MAY_CHANGE_NUMBERS if name in local and name not in remote]
    lines = [f"{_SLIGHT_DIFFERENCE}: {_line(name, local, remote)}" for name in find_differences(local, remote)[1]]
    return lines + [f"the image has no {name}: tasks that need it will fail" for name in missing]


def _line(name: str, local: Mapping[str, str], remote: Mapping[str, str]) -> str:
    return f"{name} {local[name]} here, {remote[name]} on the cluster"


def check_pins(pins: Mapping[str, str], remote: Mapping[str, str], cluster: str) -> None:
    """Compare this environment with that of a reused cluster.

    Raises:
        StartError: versions differ; the message lists all of them.
    """
    if mismatches := missing_pins(pins, remote):
        raise StartError(
            f"the cluster `{cluster}` has another environment: {describe_mismatches(mismatches, remote)}",
            "omit it to start one with this environment; or use it as it is with `--env none`",
        )


def _packages(peer: Mapping[str, Any]) -> dict[str, str]:
    return {
        PYTHON: str(peer["host"]["python"]),
        **{name: version for name, version in peer["packages"].items() if version},
    }


def _comparable(name: str, version: str) -> str:
    """Return the part of a version that matters: of Python's the minor one, within which pickles are the same."""
    return ".".join(version.split(".")[:2]) if name == PYTHON else version
