"""What a scheduler's or worker's pod runs first: see that the environment is the user's, then become Dask.

`python -m skjob.environment.pod MODULE ARGUMENT...` compares what the image has with what is needed, gets what it
lacks from the pod that keeps it (`skjob.environment.keeper`), compares again, and runs the module in this very
process: where the image has all, that costs a look into a folder. A pod that can't have what it needs says so in its
termination message, where `skjob.cluster.diagnose` finds it, and takes no task.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

from skjob.environment.needs import Needs, differing, installed, python_here, told
from skjob.environment.on_import import PATIENCE, Keeper, Unreachable, begin

RUN_FOLDER = "/skjob/run"
SITE_FOLDER = "/skjob/site"
KEEPER_TLS_FOLDER = "/skjob/environment"

SCHEDULER_PATIENCE = 20.0

UNFIT = 78
"""The exit status of a pod that can't have what it needs (sysexits' EX_CONFIG)."""

_TERMINATION_LOG = Path("/dev/termination-log")


class Unfit(Exception):
    """The pod can't have what it needs; the message says what, in the user's words."""


def complete(needs: Needs, site: Path, tls: Path, patience: float = PATIENCE) -> float:
    """See that all is there; the seconds that took, 0 where nothing had to be done.

    `patience` is for how many seconds the pod that keeps the environment may be away, now and later.

    Raises:
        Unfit: the image has another Python, or what it lacks can't be had.
    """
    if python_here() != needs.python:
        raise Unfit(f"the image has Python {python_here()}, and this environment has {needs.python}")
    began = time.monotonic()
    if needs.served_at:
        try:
            begin(Keeper(needs.served_at, tls, patience), site)
        except Unreachable as error:
            raise Unfit(str(error)) from error
    there = installed()
    lacking = differing(needs.pins, there)
    if lacking:
        raise Unfit(f"the pods don't have the versions of this environment: {told(lacking, there)}")
    return time.monotonic() - began if needs.served_at else 0.0


def main() -> None:
    """Complete the environment, then run the module that the arguments name."""
    module, *arguments = sys.argv[1:]
    # A scheduler that waits in an import answers nobody meanwhile: the client would take it for lost.
    patience = SCHEDULER_PATIENCE if module.endswith("scheduler") else PATIENCE
    try:
        seconds = complete(Needs.read(Path(RUN_FOLDER)), Path(SITE_FOLDER), Path(KEEPER_TLS_FOLDER), patience)
    except Unfit as unfit:
        end_unfit(unfit)
    if seconds:
        print(f"skjob: the environment can be had, after {seconds:.1f} s", file=sys.stderr)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def end_unfit(unfit: Unfit) -> None:
    """End this process; Kubernetes keeps the message."""
    print(f"error: {unfit}", file=sys.stderr)
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_text(str(unfit), encoding="utf-8")
    sys.exit(UNFIT)


if __name__ == "__main__":
    main()
