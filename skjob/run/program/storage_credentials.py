"""Storage credentials for workers: environment variables from here that give access to data, set on theirs.

They travel over the encrypted connection, into the memory of the workers' processes: no manifest, argument, log or
record has them. A file that a variable names travels with it, into a folder of the worker's own that nobody else reads;
there the variable names the copy. A worker with credentials of its own for the same kind of storage, by its service
account say, keeps those. On a cluster that serves one run after the other they belong to one run: they are removed when
it ends, and, if it died, before the next begins.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from skjob.config.environment_variables import CREDENTIAL_FILES
from skjob.engine.fidelity.settings.process import COPIED_FILES, write_variables
from skjob.run.program.worker_variables import NAME as VARIABLES
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

MAX_FILE_BYTES = 2**20
"""A file with credentials is much smaller."""

FSSPEC = "FSSPEC_"
"""How the names of fsspec's own settings begin, `FSSPEC_S3_ANON=true`."""


def found(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that give a process access to storage."""
    known = {name for names in FAMILIES.values() for name in names}
    return {name: value for name, value in environ.items() if name in known or name.startswith(FSSPEC)}


@dataclass(frozen=True)
class CredentialFile:
    """A file with credentials, and its path in the program's process."""

    path: str
    content: bytes = field(repr=False)


def found_files(environ: Mapping[str, str]) -> dict[str, CredentialFile]:
    """Return the files with credentials that variables name. One that cannot be read fails as in plain Python."""
    files = {}
    for name in CREDENTIAL_FILES:
        path = environ.get(name, "")
        with suppress(OSError, ValueError):
            if path and Path(path).is_file() and Path(path).stat().st_size <= MAX_FILE_BYTES:
                files[name] = CredentialFile(path, Path(path).read_bytes())
    return files


class Credentials(WorkerPlugin):  # type: ignore[misc]
    """Sets these variables on each worker, also on those that join later, until it is unregistered.

    Those that were `given` to the run by their names are no credentials of a worker's own.
    """

    name = NAME

    def __init__(
        self,
        variables: Mapping[str, str],
        files: Mapping[str, CredentialFile] | None = None,
        given: Collection[str] = (),
    ) -> None:
        self._variables = dict(variables)
        self._files = dict(files or {})
        self._given = frozenset(given)
        self._folder = ""
        self._before: dict[str, str | None] = {}

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        own = {name: value for name, value in os.environ.items() if name not in self._given}
        missing = lacking(self._variables, own)
        self._variables = {name: value for name, value in missing.items() if name not in os.environ}
        self._files = {name: file for name, file in self._files.items() if self._needs(name, file)}
        if self._files:
            self._folder = tempfile.mkdtemp(prefix="skjob-credentials-", dir=worker.local_directory)
        for name, file in self._files.items():
            copy = f"{self._folder}/{name}{Path(file.path).suffix}"
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as target:
                target.write(file.content)
            self._variables[name] = copy
            COPIED_FILES[name, file.path] = copy
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)
        _reset_fsspec()

    def _needs(self, name: str, file: CredentialFile) -> bool:
        """Return whether the worker has neither credentials of its own nor, as on this machine, the very same file."""
        here = os.environ.get(name)
        return here is None or (name in self._given and here != file.path)

    def teardown(self, worker: Any) -> None:
        """Called by each worker when the plugin is replaced or unregistered."""
        ours = [name for name, value in self._variables.items() if os.environ.get(name) == value]
        write_variables({name: self._before[name] for name in ours})
        for name, file in self._files.items():
            COPIED_FILES.pop((name, file.path), None)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
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
    """Remove the credentials of any run from all workers, and the variables that it has set there.

    Raises:
        OSError, TimeoutError: the workers do not answer.
    """
    for plugin in (NAME, VARIABLES):
        with suppress(ValueError):  # there are none
            wait_while_connected(client, client._unregister_worker_plugin(plugin), FORGET_SECONDS)


def lacking(variables: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to set beside a worker's own: none for a kind of storage that it has access to already."""
    missing = dict(variables)
    for family, names in FAMILIES.items():
        if any(name in own for name in (*names, *OWN_IDENTITY.get(family, ()))):
            missing = {name: value for name, value in missing.items() if name not in names}
    return {name: value for name, value in missing.items() if name not in own}
