"""A run's storage credentials are its own: no later run on the same cluster has them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from support import python_server
from support.command import run_here
from support.runs import DEADLINE, Runs
from support.victim_run import STORAGE_SECRET
from support.wait import until

Row = Callable[..., None]
Result = subprocess.CompletedProcess[str]

LOOKING = """
    import os, sys
    from dask.distributed import Client
    from joblib import Parallel, delayed
    def look(_):
        return [os.environ.get(name, "none") for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY")]
    Client.current().wait_for_workers(2, timeout=180)
    print(*sorted({" ".join(found) for found in Parallel()(delayed(look)(i) for i in range(8))}), flush=True)
    if "stop" in sys.argv:
        os.kill(os.getppid(), 9)
"""
FIRST, SECOND = STORAGE_SECRET, "another-storage-secret-3f9a1c"


@pytest.fixture(scope="module")
def ended(shared_namespace: str, user: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Three runs, one after the other on a warm cluster: the first ends, the second is killed, the third has nothing.

    The program's end is the same each time.
    """
    runs = Runs(tmp_path_factory.mktemp("warm"), user, shared_namespace)
    here = ["--context", "kind-skjob", "--namespace", shared_namespace]
    up = run_here(["up", "warm", "--workers", "2", *here], user, runs.folder)
    assert up.returncode == 0, up.stderr
    try:
        return [
            runs.run_here(LOOKING, "--cluster", "warm", AWS_ACCESS_KEY_ID="ann", AWS_SECRET_ACCESS_KEY=FIRST),
            # As a process of its own, which the program ends: its parent.
            python_server.run_new(
                runs.command(LOOKING, "--cluster", "warm", "--", "stop")[1:], runs.folder,
                user | {"AZURE_STORAGE_ACCOUNT_NAME": "ann", "AZURE_STORAGE_ACCOUNT_KEY": SECOND}, timeout=DEADLINE,
            ),
            until(lambda: _next(runs), "the cluster is still in use by a run that was killed"),
        ]  # fmt: skip
    finally:
        down = run_here(["down", "warm", *here], user, runs.folder)
        assert down.returncode == 0, down.stderr


def _next(runs: Runs) -> Result | None:
    """Run once more; None where the scheduler has not yet seen that the run before was killed."""
    ended = runs.run_here(LOOKING, "--cluster", "warm")
    return None if "`warm` is in use" in ended.stderr else ended


@pytest.mark.parametrize("end", ["its end", "its death"])
def test_the_next_run_on_a_warm_cluster_has_no_credentials_of_the_last(
    ended: list[Result], end: str, security_row: Row
) -> None:
    """Whether skjob has ended or was killed."""
    first, second, third = ended
    if end == "its end":
        assert (first.returncode, first.stdout) == (0, f"{FIRST} none\n"), first.stderr
        assert second.stdout == f"none {SECOND}\n", second.stderr
    else:
        assert (second.returncode, second.stdout) == (-9, f"none {SECOND}\n"), second.stderr
        assert (third.returncode, third.stdout) == (0, "none none\n"), third.stderr
    security_row(
        "a run's storage credentials are its own",
        f"the next run on the same warm cluster, after {end}, looks for them",
        "none there",
        "yes",
    )
