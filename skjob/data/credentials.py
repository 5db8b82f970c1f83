"""The way to data at an address, for workers: what the environment here says about storage, sent to theirs.

It travels over the encrypted connection, into the memory of the workers' processes: no manifest, argument, log or
record has it. A worker that has credentials of its own for the same kind of storage, by its service account say, keeps
those.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "AWS": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
    ),
    "AZURE": (
        "AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_ANON",
    ),
    "HF": ("HF_TOKEN", "HF_ENDPOINT"),
}  # fmt: skip
OWN_IDENTITY = {"AWS": ("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"), "AZURE": ("AZURE_CLIENT_ID",)}
"""Variables of a pod that has an identity by other means."""

FSSPEC = "FSSPEC_"
"""Begins the names of fsspec's own settings, `FSSPEC_S3_ANON=true`."""


def found(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that tell a process how to reach storage."""
    known = {name for names in FAMILIES.values() for name in names}
    return {name: value for name, value in environ.items() if name in known or name.startswith(FSSPEC)}


class Credentials(WorkerPlugin):  # type: ignore[misc]
    """Sets these variables on each worker, also on those that join later."""

    name = "skjob-credentials"

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        os.environ.update(lacking(self._variables, os.environ))
        if any(name.startswith(FSSPEC) for name in self._variables):
            from fsspec import config

            config.set_conf_env(config.conf)  # it has read them once, when it was imported


def lacking(variables: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Those to set beside a worker's own: none of a kind of storage that it has some for already."""
    wanted = dict(variables)
    for family, names in FAMILIES.items():
        if any(name in own for name in (*names, *OWN_IDENTITY.get(family, ()))):
            wanted = {name: value for name, value in wanted.items() if name not in names}
    return {name: value for name, value in wanted.items() if name not in own}
