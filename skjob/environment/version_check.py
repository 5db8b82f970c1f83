"""Whether the two ends speak the same language: the versions here and on the cluster, compared before work is sent.

Pure. A difference that breaks pickles or protocols is an error; one that may change numbers is worth a word. `skjob
doctor` judges an image by the same rules as a run does its pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skjob.environment.pod.requirements import describe_mismatches, missing_pins
from skjob.errors import StartError

PYTHON = "python"
MUST_AGREE = ("dask", "distributed", "cloudpickle")
MAY_CHANGE_NUMBERS = ("scikit-learn", "numpy", "scipy", "joblib", "pandas")
_SLIGHT = "another version, which may give other numbers"

Versions = Mapping[str, Any]


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What keeps two ends from working together, and what may make their numbers differ: the names.

    What one end does not have is not compared.
    """
    serious: list[str] = []
    slight: list[str] = []
    for name in (PYTHON, *MUST_AGREE, *MAY_CHANGE_NUMBERS):
        if name in here and name in there and _comparable(name, here[name]) != _comparable(name, there[name]):
            (slight if name in MAY_CHANGE_NUMBERS else serious).append(name)
    return serious, slight


def check_versions(versions: Mapping[str, Any]) -> list[str]:
    """Differences that may change numbers, one line each, in what `distributed.Client.get_versions` gives.

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
        for names, lines in zip(differences(client, there), (serious, slight), strict=True):
            lines |= dict.fromkeys(_line(name, client, there) for name in names)
    if serious:
        raise StartError(
            "the image does not match this environment: " + "; ".join(serious),
            "choose an image with the same versions, with `--image`, or leave it out for one made to match",
        )
    return [f"{_SLIGHT}: {line}" for line in slight]


def check_installed(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """The same for distributions, of which `get_versions` knows few: scikit-learn is not among them."""
    absent = [name for name in MAY_CHANGE_NUMBERS if name in here and name not in there]
    lines = [f"{_SLIGHT}: {_line(name, here, there)}" for name in differences(here, there)[1]]
    return lines + [f"the image has no {name}: what needs it fails there" for name in absent]


def _line(name: str, here: Mapping[str, str], there: Mapping[str, str]) -> str:
    return f"{name} {here[name]} here, {there[name]} on the cluster"


def check_pins(pins: Mapping[str, str], there: Mapping[str, str], cluster: str) -> None:
    """Compare this environment with that of a cluster which was there before.

    Raises:
        StartError: some versions differ; with all of them.
    """
    if different := missing_pins(pins, there):
        raise StartError(
            f"the cluster `{cluster}` has another environment: {describe_mismatches(different, there)}",
            "leave it out to start one with this environment; or `--env none` takes it as it is",
        )


def _packages(peer: Versions) -> dict[str, str]:
    return {
        PYTHON: str(peer["host"]["python"]),
        **{name: version for name, version in peer["packages"].items() if version},
    }


def _comparable(name: str, version: str) -> str:
    """Python's last digit does not matter: its pickles and byte code are the same within a minor version."""
    return ".".join(version.split(".")[:2]) if name == PYTHON else version
