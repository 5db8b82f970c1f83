"""Variables that a user sets for a program are set in its process and on workers, and secret ones are not shown."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from distributed import Client
from local_runs import LocalRuns
from support.python_server import programs_forked
from waiting import DEADLINE

from skjob.config.plan import WorkerSize
from skjob.deploy.local import LocalCluster
from skjob.engine.transfer.worker_plugins import register_plugin
from skjob.run.program.storage_credentials import Credentials, forget, found_files
from skjob.run.program.worker_variables import WorkerVariables
from skjob.run.target import private_folder

GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS"
TOKEN = "sesame-3f9a1c-not-to-be-seen"

# By `Client.run`: joblib tasks would bring the variables that their code reads.
PRINT_VARIABLES = """
    import json, os
    from pathlib import Path
    from dask.distributed import Client, wait

    def variables(*names):
        return [os.environ.get(name) for name in names]

    names = ["MY_LEVEL", "MY_TOKEN", "MY_OWN"]
    arguments = [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
    print(json.dumps(variables(*names)))
    print(json.dumps(list(Client.current().run(variables, *names).values())))
    print(sum(os.environ["MY_TOKEN"] in line for line in arguments), len(arguments) > 3)
    client = Client.current()
    wait(client.submit(print, "a task prints", os.environ["MY_TOKEN"]))
    raise ValueError("bad " + os.environ["MY_TOKEN"])
"""

SCORED = """
    import os
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer


    def scaled(X):
        return X * float(os.environ["MYPROJECT_SCALE"])


    pipe = make_pipeline(FunctionTransformer(scaled), LogisticRegression(max_iter=2000))
    print(cross_val_score(pipe, *load_iris(return_X_y=True), cv=2).round(4).tolist())
"""

BLOCK = """
    import json, os
    import skjob

    def variables():
        return [os.environ.get(name) for name in ("MY_LEVEL", "MY_TOKEN")]

    values = [variables()]
    settings = {"MY_LEVEL": "1"}
    with skjob.cluster(1, on="local", checkpoint="none", set_env=settings, secret_env=["MY_TOKEN"]) as client:
        values += [variables(), *client.run(variables).values()]
    print(json.dumps([*values, variables()]))
"""


def test_program_and_workers_have_variables_and_secret_ones_are_masked(local_runs: LocalRuns) -> None:
    local_runs.environment |= {"MY_TOKEN": TOKEN, "MY_OWN": "mine"}
    options = ["--set-env", "MY_LEVEL=a $(HOME)", "--secret-env", "MY_TOKEN", "--set-env", "MY_OWN", "-v"]
    ended = local_runs.run(PRINT_VARIABLES, *options, own_cluster=True)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[:1] == [json.dumps(["a $(HOME)", TOKEN, "mine"])], ended.stderr
    own, workers, processes = ended.stdout.splitlines()
    assert json.loads(workers) == [json.loads(own)] * 2
    assert processes == "0 True"
    output = "".join(line for line in ended.stderr.splitlines(keepends=True) if not line.startswith("ValueError"))
    assert "a task prints ****" in output
    assert TOKEN not in output
    files = "".join(path.read_text() for path in (local_runs.folder / ".skjob").rglob("*") if path.is_file())
    assert TOKEN not in files
    assert ended.record["outcome"]["cause"] == "ValueError: bad ****"
    assert "a task prints ****" in ended.record["logs"]["local"]


def test_value_of_a_variable_is_part_of_the_fit_key(local_runs: LocalRuns) -> None:
    first, other = (local_runs.run(SCORED, "--set-env", f"MYPROJECT_SCALE={scale}") for scale in ("1", "0"))
    assert [each.returncode for each in (first, other)] == [0, 0], other.stderr
    assert [each.record["fits"].get("kept", 0) for each in (first, other)] == [2, 2]
    assert first.stdout != other.stdout


def test_fits_that_read_a_secret_variable_are_not_stored(local_runs: LocalRuns) -> None:
    local_runs.environment["MYPROJECT_SCALE"] = "1.00"
    secret = local_runs.run(SCORED, "--secret-env", "MYPROJECT_SCALE")
    assert secret.returncode == 0, secret.stderr
    reason = "a use of the secret variable `MYPROJECT_SCALE`, of which no trace is kept, in function `scaled`"
    assert f"skjob: fits are not stored for later runs: {reason}\n" in secret.stderr
    assert secret.record["fits"].get("kept", 0) == 0


def test_variables_of_a_block_are_reset_afterwards(local_runs: LocalRuns) -> None:
    local_runs.environment |= {"MY_LEVEL": "mine", "MY_TOKEN": TOKEN}
    ended = local_runs.python(BLOCK)
    assert ended.returncode == 0, ended.stderr
    before, within, worker, after = json.loads(ended.stdout)
    assert before == after == ["mine", TOKEN]
    assert within == worker == ["1", TOKEN]


def test_variables_of_a_run_are_removed_from_workers_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a warm cluster. Workers that connect later have them as well."""
    key = tmp_path / "key.json"
    key.write_text("{}")
    for name in ("MY_TOKEN", GOOGLE):
        monkeypatch.delenv(name, raising=False)

    def state() -> list[str | None]:
        path = os.environ.get(GOOGLE)
        file = f"{Path(path).read_text()} {Path(path).stat().st_mode & 0o777:o}" if path else None
        return [os.environ.get("MY_LEVEL"), os.environ.get("MY_TOKEN"), file]

    size, cluster_variables = WorkerSize(0.5, 2**30, 1), {"MY_LEVEL": "the cluster's"}
    with (
        private_folder() as folder,
        closing(LocalCluster("variables", folder, 1, size, 1, variables=cluster_variables)) as cluster,
    ):
        with programs_forked():
            cluster.start()
        with Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=DEADLINE)
            before = client.run(state)
            register_plugin(client, WorkerVariables({"MY_LEVEL": "1", "MY_TOKEN": TOKEN}))
            register_plugin(client, Credentials({}, found_files({GOOGLE: str(key)})))
            cluster.add_workers(2)
            client.wait_for_workers(2, timeout=DEADLINE)
            during = client.run(state)
            forget(client)
            after = client.run(state)
    assert list(before.values()) == [["the cluster's", None, None]]
    assert list(during.values()) == [["1", TOKEN, "{} 600"]] * 2
    assert list(after.values()) == [["the cluster's", None, None]] * 2
