"""What a program finds on its cluster beside Dask: its modules, its storage credentials, boosters that survive a lost
worker, dask-ml without the defects that we know. The same for `skjob run` and for `skjob.cluster`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def prepare_client(client: Any, root: Path, packages: bytes | None, width: int, note: Callable[[str], None]) -> None:
    """Send a program's modules, those below `root`, and `packages`, those that are local here; prepare the rest.

    What it imports from elsewhere is sent as it does so.

    `width` is how many tasks can run at once when all workers are there.
    """
    from skjob.boosters import prepare
    from skjob.engine.transfer.import_path import ProgramCode
    from skjob.engine.transfer.worker_plugins import PACKAGES_PART, register_plugin, send_modules
    from skjob.run.program.dask_ml_patches import install_patches
    from skjob.run.program.storage_credentials import Credentials, found

    code = ProgramCode(client, root, note)
    if packages:
        send_modules(client, PACKAGES_PART, packages)
    code.begin()
    prepare(client, width, note)
    install_patches()
    if variables := found(os.environ):
        register_plugin(client, Credentials(variables))
