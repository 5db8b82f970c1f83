"""What a program finds on its cluster beside Dask, in `skjob run` and in `skjob.cluster()`.

Its modules, its variables and storage credentials, boosters that survive a lost worker, and dask-ml without its known
defects.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skjob.run.program.variables import ProgramVariables
from skjob.utils.notify import Notify

if TYPE_CHECKING:
    from skjob.boosters.worker_barrier import WorkerBarrier


def prepare_client(
    client: Any, root: Path, packages: bytes | None, width: int, notify: Notify, variables: ProgramVariables
) -> WorkerBarrier:
    """Send a program's modules, those below `root`, and `packages`, those that are local here; prepare the rest.

    Modules from elsewhere are sent when the program imports them. `width` is how many tasks can run at once when all
    workers are there. Return what lets trainings wait for these.
    """
    from skjob.boosters import prepare
    from skjob.engine.fidelity.settings.variables import SECRET_NAMES
    from skjob.engine.transfer.import_path import ProgramCode
    from skjob.engine.transfer.worker_plugins import PACKAGES_PART, register_plugin, send_modules
    from skjob.run.program.dask_ml_patches import install_patches
    from skjob.run.program.storage_credentials import Credentials, found, found_files
    from skjob.run.program.worker_variables import WorkerVariables

    SECRET_NAMES.update(variables.secret)
    code = ProgramCode(client, root, notify)
    if packages:
        send_modules(client, PACKAGES_PART, packages)
    code.begin()
    barrier = prepare(client, width, notify)
    install_patches()
    if variables.sent:
        register_plugin(client, WorkerVariables({name: os.environ[name] for name in variables.sent}))
    credentials, files = found(os.environ), found_files(os.environ)
    if credentials or files:
        register_plugin(client, Credentials(credentials, files, variables.given))
    return barrier
