"""The way to data at an address, for workers: what the environment here says about storage, sent to theirs.

It travels over the encrypted connection, into the memory of the workers' processes: no manifest, argument, log or
record has it. A worker that has credentials of its own for the same kind of storage, by its service account say, keeps
those. On a cluster that serves one run after the other they are a run's own: they are taken away when it ends, and,
where it died, before the next begins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.utils.dask_client import wait_while_connected

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
NAME = "skjob-credentials"
FORGET_SECONDS = 20.0
OWN_IDENTITY = {"AWS": ("AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"), "AZURE": ("AZURE_CLIENT_ID",)}
"""Variables of a pod that has an identity by other means."""

FSSPEC = "FSSPEC_"
"""Begins the names of fsspec's own settings, `FSSPEC_S3_ANON=true`."""


def found(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that tell a process how to reach storage."""
    known = {name for names in FAMILIES.values() for name in names}
    return {name: value for name, value in environ.items() if name in known or name.startswith(FSSPEC)}


class Credentials(WorkerPlugin):  # type: ignore[misc]
    """Sets these variables on each worker, also on those that join later, until it is taken away."""

    name = NAME

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        self._variables = lacking(self._variables, os.environ)
        os.environ.update(self._variables)
        _read_anew()

    def teardown(self, worker: Any) -> None:
        """Called by each worker when others take their place, or none."""
        for name, value in self._variables.items():
            if os.environ.get(name) == value:
                del os.environ[name]
        _read_anew()


def _read_anew() -> None:
    """fsspec reads its settings once, when it is imported, and keeps its connections and with them who made them."""
    if "fsspec" not in sys.modules:
        return
    import fsspec
    from fsspec import config

    config.conf.clear()
    config.set_conf_files(config.conf_dir, config.conf)
    config.set_conf_env(config.conf)
    for kind in fsspec.registry.values():
        kind.clear_instance_cache()


def forget(client: Any) -> None:
    """Take the credentials of whichever run off all workers.

    Raises:
        OSError, TimeoutError: that can't be done.
    """
    with suppress(ValueError):  # there are none
        wait_while_connected(client, client._unregister_worker_plugin(NAME), FORGET_SECONDS)


def lacking(variables: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Those to set beside a worker's own: none of a kind of storage that it has some for already."""
    wanted = dict(variables)
    for family, names in FAMILIES.items():
        if any(name in own for name in (*names, *OWN_IDENTITY.get(family, ()))):
            wanted = {name: value for name, value in wanted.items() if name not in names}
    return {name: value for name, value in wanted.items() if name not in own}
