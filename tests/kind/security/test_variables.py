"""Variables that users set: those of a warm cluster are every run's on it, and those of a run are its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from support.command import run_here
from support.runs import Runs

Row = Callable[..., None]
Result = subprocess.CompletedProcess[str]

TOKEN = "a-runs-token-3f9a1c-not-to-be-seen"
CLUSTERS_TOKEN = "a-clusters-token-3f9a1c-not-to-be-seen"

# Asked by Dask alone: variables that the code of joblib's tasks reads would travel with them.
LOOKING = """
    import json, os
    from dask.distributed import Client

    def look():
        found = {name: os.environ.get(name) for name in ("MY_LEVEL", "MY_TOKEN", "MY_CLUSTERS_TOKEN")}
        path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        file = [open(path).read(), oct(os.stat(path).st_mode & 0o777)] if path else None
        return {**found, "file": file}

    client = Client.current()
    client.wait_for_workers(2, timeout=180)
    print(json.dumps([look(), *client.run(look).values()]), flush=True)
"""


@pytest.fixture(scope="module")
def ended(shared_namespace: str, user: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """`skjob up` with variables, and two runs on that cluster: one that sets more of them, and one that sets none."""
    runs = Runs(tmp_path_factory.mktemp("variables"), user, shared_namespace)
    (runs.folder / "key.json").write_text('{"type": "service_account"}')
    (runs.folder / "key.json").chmod(0o600)
    here = ["--context", "kind-skjob", "--namespace", shared_namespace]
    given = ["--set-env", "MY_LEVEL=1 $(HOME)", "--secret-env", "MY_CLUSTERS_TOKEN"]
    theirs = user | {"MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN}
    up = run_here(["up", "levelled", "--workers", "2", *given, *here], theirs, runs.folder)
    assert up.returncode == 0, up.stderr
    own = ["--cluster", "levelled", "--set-env", "MY_LEVEL=2", "--secret-env", "MY_TOKEN"]
    try:
        first = runs.run_here(LOOKING, *own, MY_TOKEN=TOKEN, GOOGLE_APPLICATION_CREDENTIALS="key.json")
        return [up, first, runs.run_here(LOOKING, "--cluster", "levelled")]
    finally:
        down = run_here(["down", "levelled", *here], user, runs.folder)
        assert down.returncode == 0, down.stderr


def test_variables_of_a_warm_cluster_are_every_runs_and_those_of_a_run_its_own(
    ended: list[Result], security_row: Row
) -> None:
    up, first, second = ended
    file = ['{"type": "service_account"}', "0o600"]
    seen = {"MY_LEVEL": "2", "MY_TOKEN": TOKEN, "MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN, "file": file}
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == [seen] * 3
    seen = {"MY_LEVEL": "1 $(HOME)", "MY_TOKEN": None, "MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN, "file": None}
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout) == [seen] * 3
    assert "skjob: cluster `levelled` sets `MY_LEVEL` and `MY_CLUSTERS_TOKEN` for every run on it\n" in second.stderr
    for token in (TOKEN, CLUSTERS_TOKEN):
        assert token not in up.stderr + first.stderr + second.stderr
    security_row(
        "a run's variables and files with credentials are its own",
        "the next run on the same warm cluster looks for them",
        "none there",
        "yes",
    )
