"""What a program finds on its cluster beside Dask: its modules, its storage credentials, boosters that survive a lost
worker, dask-ml without the defects that we know. The same for `skjob run` and for `skjob.cluster`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def equip(client: Any, root: Path, packages: bytes | None, width: int, note: Callable[[str], None]) -> None:
    """Send a program's modules, those below `root`, and `packages`, those that are local here; prepare the rest.

    What it imports from elsewhere is sent as it does so.

    `width` is how many tasks can run at once when all workers are there.
    """
    from skjob.boosters import prepare
    from skjob.data.credentials import Credentials, found
    from skjob.data.mended import mend_as_imported
    from skjob.engine.import_path import ProgramCode
    from skjob.engine.plugin import PACKAGES_PART, register, send_modules

    code = ProgramCode(client, root, note)
    if packages:
        send_modules(client, PACKAGES_PART, packages)
    code.begin()
    prepare(client, width, note)
    mend_as_imported()
    if variables := found(os.environ):
        register(client, Credentials(variables))
