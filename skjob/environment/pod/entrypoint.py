"""Make sure that a scheduler's or worker's pod has the user's environment, then become Dask.

`python -m skjob.environment.pod.entrypoint MODULE ARGUMENT...` compares what the image has with what is required, gets
what is missing from its server (`skjob.environment.pod.package_server`), compares again, and runs the module in the
same process: if the image has everything, that costs one listing of a folder. A pod that cannot get what it needs
reports it in its termination message, where `skjob.deploy.kubernetes.diagnosis.causes` finds it, and takes no task.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from skjob.environment.pod.lazy_import import SERVER_TIMEOUT, PackageServer, ServerUnreachable, install_finder
from skjob.environment.pod.requirements import (
    PodRequirements,
    describe_mismatches,
    installed,
    missing_pins,
    python_here,
)

RUN_FOLDER = "/skjob/run"
SITE_FOLDER = "/skjob/site"
SERVER_TLS_FOLDER = "/skjob/environment"

SCHEDULER_SERVER_TIMEOUT = 20.0

EX_CONFIG = 78
"""The exit status of a pod that cannot get what it needs (sysexits' EX_CONFIG)."""

_TERMINATION_LOG = Path("/dev/termination-log")


class RequirementsError(Exception):
    """The pod cannot get what it needs; the message says what, in the user's words."""


def ensure_requirements(requirements: PodRequirements, site: Path, tls: Path, timeout: float = SERVER_TIMEOUT) -> float:
    """Make sure that all requirements are installed. Return the seconds that took, 0 if nothing was missing.

    `timeout` is how many seconds the pod that serves the environment can be unreachable, now and later.

    Raises:
        RequirementsError: the image has another Python, or what it lacks cannot be installed.
    """
    if python_here() != requirements.python:
        raise RequirementsError(f"the image has Python {python_here()}, but this environment has {requirements.python}")
    began = time.monotonic()
    if requirements.served_at:
        try:
            install_finder(PackageServer(requirements.served_at, tls, timeout), site)
        except ServerUnreachable as error:
            raise RequirementsError(str(error)) from error
    present = installed()
    missing = missing_pins(requirements.pins, present)
    if missing:
        raise RequirementsError(
            f"the pods do not have the versions of this environment: {describe_mismatches(missing, present)}"
        )
    return time.monotonic() - began if requirements.served_at else 0.0


def main() -> None:
    """Complete the environment, then run the module that the arguments name."""
    module, *arguments = sys.argv[1:]
    # A scheduler that waits in an import does not answer, and the client would consider it lost.
    timeout = SCHEDULER_SERVER_TIMEOUT if module.endswith("scheduler") else SERVER_TIMEOUT
    try:
        seconds = ensure_requirements(
            PodRequirements.read(Path(RUN_FOLDER)), Path(SITE_FOLDER), Path(SERVER_TLS_FOLDER), timeout
        )
    except RequirementsError as error:
        exit_with_error(error)
    if seconds:
        print(f"skjob: the environment is ready after {seconds:.1f} s", file=sys.stderr)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def exit_with_error(error: RequirementsError) -> None:
    """End this process with an error, and leave its message where Kubernetes reports it."""
    print(f"error: {error}", file=sys.stderr)
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_text(str(error), encoding="utf-8")
    sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
