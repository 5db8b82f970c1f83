"""Variables that users set: those of a warm cluster apply to every run on it, those of a run only to that run."""

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

# By `Client.run`: joblib tasks would bring the variables that their code reads.
PRINT_VARIABLES = """
    import json, os
    from dask.distributed import Client

    def variables():
        values = {name: os.environ.get(name) for name in ("MY_LEVEL", "MY_TOKEN", "MY_CLUSTERS_TOKEN")}
        path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        file = [open(path).read(), oct(os.stat(path).st_mode & 0o777)] if path else None
        return {**values, "file": file}

    client = Client.current()
    client.wait_for_workers(2, timeout=180)
    print(json.dumps([variables(), *client.run(variables).values()]), flush=True)
"""


@pytest.fixture(scope="module")
def ended(shared_namespace: str, user: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """`skjob up` with variables, and two runs on that cluster: one sets more variables, the other none."""
    runs = Runs(tmp_path_factory.mktemp("variables"), user, shared_namespace)
    (runs.folder / "key.json").write_text('{"type": "service_account"}')
    (runs.folder / "key.json").chmod(0o600)
    cluster = ["--context", "kind-skjob", "--namespace", shared_namespace]
    options = ["--set-env", "MY_LEVEL=1 $(HOME)", "--secret-env", "MY_CLUSTERS_TOKEN"]
    environment = user | {"MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN}
    up = run_here(["up", "levelled", "--workers", "2", *options, *cluster], environment, runs.folder)
    assert up.returncode == 0, up.stderr
    own_variables = ["--cluster", "levelled", "--set-env", "MY_LEVEL=2", "--secret-env", "MY_TOKEN"]
    try:
        first = runs.run_here(
            PRINT_VARIABLES, *own_variables, MY_TOKEN=TOKEN, GOOGLE_APPLICATION_CREDENTIALS="key.json"
        )
        return [up, first, runs.run_here(PRINT_VARIABLES, "--cluster", "levelled")]
    finally:
        down = run_here(["down", "levelled", *cluster], user, runs.folder)
        assert down.returncode == 0, down.stderr


def test_variables_of_a_warm_cluster_apply_to_all_runs_and_those_of_a_run_only_to_it(
    ended: list[Result], security_row: Row
) -> None:
    up, first, second = ended
    file = ['{"type": "service_account"}', "0o600"]
    expected = {"MY_LEVEL": "2", "MY_TOKEN": TOKEN, "MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN, "file": file}
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == [expected] * 3
    expected = {"MY_LEVEL": "1 $(HOME)", "MY_TOKEN": None, "MY_CLUSTERS_TOKEN": CLUSTERS_TOKEN, "file": None}
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout) == [expected] * 3
    assert "skjob: cluster `levelled` sets `MY_LEVEL` and `MY_CLUSTERS_TOKEN` for every run on it\n" in second.stderr
    for token in (TOKEN, CLUSTERS_TOKEN):
        assert token not in up.stderr + first.stderr + second.stderr
    security_row(
        "a run's variables and files with credentials are its own",
        "the next run on the same warm cluster looks for them",
        "none there",
        "yes",
    )
