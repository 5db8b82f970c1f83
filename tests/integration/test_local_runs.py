"""Runs on the warm cluster are isolated like runs on their own clusters: one does not affect the next."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_runs import LocalRuns, WarmClusters

# Leaves a module, storage credentials, a working directory, data, and a killed worker.
LEAVES_STATE = """
    import os, signal
    import features
    from dask.distributed import Client
    from joblib import Parallel, delayed

    assert Parallel()(delayed(features.name)() for _ in range(4)) == ["{name}"] * 4
    client = Client.current()
    print(*sorted(client.run(os.getcwd).values()))
    print(*client.run(os.environ.get, "AWS_ACCESS_KEY_ID").values())
    print(*client.run_on_scheduler(lambda dask_scheduler: sorted(dask_scheduler.tasks)))
    kept = client.submit(sum, [1, 2], key="kept by {name}")
    kept.result()
    print(*client.run(os.getpid).values(), flush=True)
    os._exit(0) if {crash} else os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
"""


@pytest.mark.parametrize("crash", [False, True])
def test_run_leaves_nothing_for_the_next(tmp_path: Path, warm_clusters: WarmClusters, crash: bool) -> None:
    workers = []
    for name, key in (("first", "key"), ("second", None)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "features.py").write_text(f"def name():\n    return {name!r}\n")
        runs = LocalRuns(folder, warm_clusters)
        runs.environment |= {"AWS_ACCESS_KEY_ID": key} if key else {}
        ended = runs.run(LEAVES_STATE.format(name=name, crash=crash))
        assert ended.returncode == 0, ended.stderr
        *lines, pids = ended.stdout.splitlines()
        assert lines == [f"{folder} {folder}", f"{key} {key}", ""]
        workers.append(set(pids.split()))
    assert workers[0] & workers[1], "the second run had a cluster of its own"


def test_program_runs_as_in_plain_python(local_runs: LocalRuns) -> None:
    script = "import sys; print(sys.argv, sys.stdin.read()); print('told', file=sys.stderr); sys.exit(3)"
    plain = local_runs.python(script, "--depth", "3", stdin="typed")
    ended = local_runs.run(script, arguments=["--depth", "3"], stdin="typed")
    assert (ended.returncode, ended.stdout, ended.program_stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert plain.stdout == "['train.py', '--depth', '3'] typed\n"
    assert ended.record["outcome"]["status"] == "failed"
