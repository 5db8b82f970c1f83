"""Variables that a user sets for a program: it has them, its workers have them, and nobody sees the secret ones."""

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

# What is read by a name in the code would travel with a task: workers are asked by Dask alone.
SEEING = """
    import json, os
    from pathlib import Path
    from dask.distributed import Client, wait

    def see(*names):
        return [os.environ.get(name) for name in names]

    names = ["MY_LEVEL", "MY_TOKEN", "MY_OWN"]
    arguments = [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline")]
    print(json.dumps(see(*names)))
    print(json.dumps(list(Client.current().run(see, *names).values())))
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

    def see():
        return [os.environ.get(name) for name in ("MY_LEVEL", "MY_TOKEN")]

    seen = [see()]
    given = {"MY_LEVEL": "1"}
    with skjob.cluster(1, on="local", checkpoint="none", set_env=given, secret_env=["MY_TOKEN"]) as client:
        seen += [see(), *client.run(see).values()]
    print(json.dumps([*seen, see()]))
"""


def test_program_and_workers_have_them_and_the_secret_ones_are_not_seen(local_runs: LocalRuns) -> None:
    local_runs.environment |= {"MY_TOKEN": TOKEN, "MY_OWN": "mine"}
    options = ["--set-env", "MY_LEVEL=a $(HOME)", "--secret-env", "MY_TOKEN", "--set-env", "MY_OWN", "-v"]
    ended = local_runs.run(SEEING, *options, own_cluster=True)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[:1] == [json.dumps(["a $(HOME)", TOKEN, "mine"])], ended.stderr
    own, workers, processes = ended.stdout.splitlines()
    assert json.loads(workers) == [json.loads(own)] * 2
    assert processes == "0 True"
    told = "".join(line for line in ended.stderr.splitlines(keepends=True) if not line.startswith("ValueError"))
    assert "a task prints ****" in told
    assert TOKEN not in told
    kept = "".join(path.read_text() for path in (local_runs.folder / ".skjob").rglob("*") if path.is_file())
    assert TOKEN not in kept
    assert ended.record["outcome"]["cause"] == "ValueError: bad ****"
    assert "a task prints ****" in ended.record["logs"]["local"]


def test_fits_whose_code_reads_one_are_told_apart(local_runs: LocalRuns) -> None:
    first, other = (local_runs.run(SCORED, "--set-env", f"MYPROJECT_SCALE={scale}") for scale in ("1", "0"))
    assert [each.returncode for each in (first, other)] == [0, 0], other.stderr
    assert [each.record["fits"].get("kept", 0) for each in (first, other)] == [2, 2]
    assert first.stdout != other.stdout


def test_a_fit_whose_code_reads_a_secret_one_is_not_kept(local_runs: LocalRuns) -> None:
    local_runs.environment["MYPROJECT_SCALE"] = "1.00"
    secret = local_runs.run(SCORED, "--secret-env", "MYPROJECT_SCALE")
    assert secret.returncode == 0, secret.stderr
    reason = "a use of the secret variable `MYPROJECT_SCALE`, of which no trace is kept, in function `scaled`"
    assert f"skjob: fits are not stored for later runs: {reason}\n" in secret.stderr
    assert secret.record["fits"].get("kept", 0) == 0


def test_in_python_they_last_as_long_as_the_block(local_runs: LocalRuns) -> None:
    local_runs.environment |= {"MY_LEVEL": "mine", "MY_TOKEN": TOKEN}
    ended = local_runs.python(BLOCK)
    assert ended.returncode == 0, ended.stderr
    before, within, worker, after = json.loads(ended.stdout)
    assert before == after == ["mine", TOKEN]
    assert within == worker == ["1", TOKEN]


def test_what_a_run_sends_to_workers_that_were_there_before_leaves_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a warm cluster: a worker that joins later has it too."""
    key = tmp_path / "key.json"
    key.write_text("{}")
    for name in ("MY_TOKEN", GOOGLE):
        monkeypatch.delenv(name, raising=False)

    def look() -> list[str | None]:
        path = os.environ.get(GOOGLE)
        file = f"{Path(path).read_text()} {Path(path).stat().st_mode & 0o777:o}" if path else None
        return [os.environ.get("MY_LEVEL"), os.environ.get("MY_TOKEN"), file]

    size, theirs = WorkerSize(0.5, 2**30, 1), {"MY_LEVEL": "the cluster's"}
    with (
        private_folder() as folder,
        closing(LocalCluster("variables", folder, 1, size, 1, variables=theirs)) as cluster,
    ):
        with programs_forked():
            cluster.start()
        with Client(cluster.address, security=cluster.tls.security(), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=DEADLINE)
            before = client.run(look)
            register_plugin(client, WorkerVariables({"MY_LEVEL": "1", "MY_TOKEN": TOKEN}))
            register_plugin(client, Credentials({}, found_files({GOOGLE: str(key)})))
            cluster.add_workers(2)
            client.wait_for_workers(2, timeout=DEADLINE)
            during = client.run(look)
            forget(client)
            after = client.run(look)
    assert list(before.values()) == [["the cluster's", None, None]]
    assert list(during.values()) == [["1", TOKEN, "{} 600"]] * 2
    assert list(after.values()) == [["the cluster's", None, None]] * 2
