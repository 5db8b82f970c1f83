"""Storage credentials for workers: environment variables from here that give access to data, set on theirs.

They travel over the encrypted connection, into the memory of the workers' processes: no manifest, argument, log or
record has them. A worker with credentials of its own for the same kind of storage, by its service account say, keeps
those. On a cluster that serves one run after the other they belong to one run: they are removed when it ends, and, if
it died, before the next begins.
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
"""Variables of a pod that has an identity of its own."""

FSSPEC = "FSSPEC_"
"""How the names of fsspec's own settings begin, `FSSPEC_S3_ANON=true`."""


def found(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a process access to storage."""
    known = {name for names in FAMILIES.values() for name in names}
    return {name: value for name, value in environ.items() if name in known or name.startswith(FSSPEC)}


class Credentials(WorkerPlugin):  # type: ignore[misc]
    """Sets these variables on each worker, also on those that join later, until it is unregistered."""

    name = NAME

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        self._variables = lacking(self._variables, os.environ)
        os.environ.update(self._variables)
        _reset_fsspec()

    def teardown(self, worker: Any) -> None:
        """Called by each worker when the plugin is replaced or unregistered."""
        for name, value in self._variables.items():
            if os.environ.get(name) == value:
                del os.environ[name]
        _reset_fsspec()


def _reset_fsspec() -> None:
    """Reset fsspec, which reads its settings once, at import, and keeps connections with their credentials."""
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
    """Remove the credentials of any run from all workers.

    Raises:
        OSError, TimeoutError: the workers do not answer.
    """
    with suppress(ValueError):  # there are none
        wait_while_connected(client, client._unregister_worker_plugin(NAME), FORGET_SECONDS)


def lacking(variables: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set beside a worker's own: none for a kind of storage that it has access to already."""
    missing = dict(variables)
    for family, names in FAMILIES.items():
        if any(name in own for name in (*names, *OWN_IDENTITY.get(family, ()))):
            missing = {name: value for name, value in missing.items() if name not in names}
    return {name: value for name, value in missing.items() if name not in own}
