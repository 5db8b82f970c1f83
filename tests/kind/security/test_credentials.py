"""Storage credentials of a run are not available to later runs on the same cluster."""

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

PRINT_CREDENTIALS = """
    import os, sys
    from dask.distributed import Client
    from joblib import Parallel, delayed
    def credentials(_):
        return [os.environ.get(name, "none") for name in ("AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY")]
    Client.current().wait_for_workers(2, timeout=180)
    print(*sorted({" ".join(values) for values in Parallel()(delayed(credentials)(i) for i in range(8))}), flush=True)
    if "stop" in sys.argv:
        os.kill(os.getppid(), 9)
"""
FIRST, SECOND = STORAGE_SECRET, "another-storage-secret-3f9a1c"


@pytest.fixture(scope="module")
def ended(shared_namespace: str, user: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Three runs, one after the other on a warm cluster: the first ends, the second is killed, and the third sets no
    credentials."""
    runs = Runs(tmp_path_factory.mktemp("warm"), user, shared_namespace)
    cluster = ["--context", "kind-skjob", "--namespace", shared_namespace]
    up = run_here(["up", "warm", "--workers", "2", *cluster], user, runs.folder)
    assert up.returncode == 0, up.stderr
    try:
        return [
            runs.run_here(PRINT_CREDENTIALS, "--cluster", "warm", AWS_ACCESS_KEY_ID="ann", AWS_SECRET_ACCESS_KEY=FIRST),
            # In a process of its own, because the program kills its parent.
            python_server.run_new(
                runs.command(PRINT_CREDENTIALS, "--cluster", "warm", "--", "stop")[1:], runs.folder,
                user | {"AZURE_STORAGE_ACCOUNT_NAME": "ann", "AZURE_STORAGE_ACCOUNT_KEY": SECOND}, timeout=DEADLINE,
            ),
            until(lambda: _run_again(runs), "the cluster is still in use by a run that was killed"),
        ]  # fmt: skip
    finally:
        down = run_here(["down", "warm", *cluster], user, runs.folder)
        assert down.returncode == 0, down.stderr


def _run_again(runs: Runs) -> Result | None:
    """Run the program; return None if the scheduler has not yet noticed that the previous run was killed."""
    ended = runs.run_here(PRINT_CREDENTIALS, "--cluster", "warm")
    return None if "`warm` is in use" in ended.stderr else ended


@pytest.mark.parametrize("end", ["its end", "its death"])
def test_next_run_on_a_warm_cluster_has_no_credentials_of_the_previous_one(
    ended: list[Result], end: str, security_row: Row
) -> None:
    """The previous run has ended or was killed."""
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
