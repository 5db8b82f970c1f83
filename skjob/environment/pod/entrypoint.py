"""What a scheduler's or worker's pod runs first: see that the environment is the user's, then become Dask.

`python -m skjob.environment.pod.entrypoint MODULE ARGUMENT...` compares what the image has with what is needed, gets
what it lacks from the pod that keeps it (`skjob.environment.pod.package_server`), compares again, and runs the module
in this very process: where the image has all, that costs a look into a folder. A pod that can't have what it needs says
so in its termination message, where `skjob.deploy.kubernetes.diagnosis.causes` finds it, and takes no task.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from skjob.environment.pod.lazy_import import PATIENCE, Keeper, Unreachable, install_finder
from skjob.environment.pod.requirements import (
    PodRequirements,
    describe_mismatches,
    installed,
    missing_pins,
    python_here,
)

RUN_FOLDER = "/skjob/run"
SITE_FOLDER = "/skjob/site"
KEEPER_TLS_FOLDER = "/skjob/environment"

SCHEDULER_PATIENCE = 20.0

EX_CONFIG = 78
"""The exit status of a pod that can't have what it needs (sysexits' EX_CONFIG)."""

_TERMINATION_LOG = Path("/dev/termination-log")


class RequirementsError(Exception):
    """The pod can't have what it needs; the message says what, in the user's words."""


def ensure_requirements(needs: PodRequirements, site: Path, tls: Path, patience: float = PATIENCE) -> float:
    """See that all is there; the seconds that took, 0 where nothing had to be done.

    `patience` is for how many seconds the pod that keeps the environment may be away, now and later.

    Raises:
        Unfit: the image has another Python, or what it lacks can't be had.
    """
    if python_here() != needs.python:
        raise RequirementsError(f"the image has Python {python_here()}, and this environment has {needs.python}")
    began = time.monotonic()
    if needs.served_at:
        try:
            install_finder(Keeper(needs.served_at, tls, patience), site)
        except Unreachable as error:
            raise RequirementsError(str(error)) from error
    there = installed()
    lacking = missing_pins(needs.pins, there)
    if lacking:
        raise RequirementsError(
            f"the pods don't have the versions of this environment: {describe_mismatches(lacking, there)}"
        )
    return time.monotonic() - began if needs.served_at else 0.0


def main() -> None:
    """Complete the environment, then run the module that the arguments name."""
    module, *arguments = sys.argv[1:]
    # A scheduler that waits in an import answers nobody meanwhile: the client would take it for lost.
    patience = SCHEDULER_PATIENCE if module.endswith("scheduler") else PATIENCE
    try:
        seconds = ensure_requirements(
            PodRequirements.read(Path(RUN_FOLDER)), Path(SITE_FOLDER), Path(KEEPER_TLS_FOLDER), patience
        )
    except RequirementsError as unfit:
        end_unfit(unfit)
    if seconds:
        print(f"skjob: the environment can be had, after {seconds:.1f} s", file=sys.stderr)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_unfit(unfit: RequirementsError) -> None:
    """End this process; Kubernetes keeps the message."""
    print(f"error: {unfit}", file=sys.stderr)
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_text(str(unfit), encoding="utf-8")
    sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
