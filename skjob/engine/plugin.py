"""Makes the modules beside the user's script importable on every worker, also on those that join later."""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin


class LocalModules(WorkerPlugin):  # type: ignore[misc]
    """Unpacks the source files into the worker's own folder and puts that on the import path."""

    idempotent = True

    def __init__(self, archive: bytes) -> None:
        self.name = f"skjob-modules-{hashlib.sha256(archive).hexdigest()[:16]}"
        self.archive = archive

    def setup(self, worker: Any) -> None:
        """Called by each worker as it joins."""
        folder = Path(worker.local_directory) / self.name
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            archive.extractall(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
