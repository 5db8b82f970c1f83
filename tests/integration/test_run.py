"""`skjob run` on this machine: the script's environment, what it leaves, and how it ends.

Tests of signals, of standard streams, or of the start and end of a cluster run the command as a process; others run it
in the tests' process, on a warm cluster.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dask.system import CPU_COUNT
from local_runs import FinishedRun, LocalRuns
from support.python_server import PipedProcess
from waiting import DEADLINE, wait_until_gone, working_in

# Runs long enough to be interrupted.
SEARCHING = """
    import time
    from joblib import Parallel, delayed
    print("searching", flush=True)
    Parallel()(delayed(time.sleep)(0.2) for _ in range(10_000))
"""


@pytest.fixture
def environment(local_runs: LocalRuns) -> dict[str, str]:
    """Environment variables of processes that a test starts itself."""
    return local_runs.environment


def command(folder: Path, script: str, *options: str) -> list[str]:
    (folder / "train.py").write_text(textwrap.dedent(script))
    return [sys.executable, "-m", "skjob", "run", "--on", "local", *options, "train.py"]


@contextmanager
def piped(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[PipedProcess]:
    """Start a command with pipes as its streams; kill it at the end of the block."""
    process = PipedProcess(command[1:], str(folder), environment)
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        process.kill()
        process.wait(DEADLINE)


def record(folder: Path) -> dict[str, Any]:
    [path] = (folder / ".skjob" / "runs").glob("*/run.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_script_runs_as_in_plain_python(local_runs: LocalRuns) -> None:
    """The traceback has only the user's lines and none of skjob's."""
    script = """
        import json, os, sys
        facts = {
            "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0], "cwd": os.getcwd(),
            "main": sys.modules["__main__"].__dict__ is globals(), "stdin": sys.stdin.read(),
        }
        print(json.dumps(facts))
        def fit():
            return 1 / 0
        fit()
    """
    by_python = local_runs.python(script, "--depth", "3", stdin="some lines\n")
    by_skjob = local_runs.run(script, arguments=["--depth", "3"], stdin="some lines\n")
    assert by_skjob.stdout == by_python.stdout
    assert json.loads(by_skjob.stdout)["stdin"] == "some lines\n"
    assert by_skjob.program_stderr == by_python.stderr
    assert by_skjob.stderr.count("Traceback") == 1
    assert by_skjob.returncode == by_python.returncode == 1


def test_parallel_calls_run_on_workers(tmp_path: Path, local_runs: LocalRuns) -> None:
    """Tasks run on workers, except with `n_jobs=1`. A script without a main guard runs once."""
    (tmp_path / "features.py").write_text("SCALE = 1\ndef scaled(x):\n    return SCALE * x\n")
    (tmp_path / "late.py").write_text("ANSWER = 42\n")
    script = """
        import os, signal, threading, time
        from pathlib import Path
        import features
        from dask.distributed import Client
        from joblib import Parallel, delayed

        with Path("starts").open("a") as file:
            file.write("x")
        features.SCALE = 7

        def pid(_):
            time.sleep(0.1)  # very short calls would run in the program's process
            return os.getpid()

        def scaled(x):
            return features.scaled(x), features.SCALE

        def late(_):
            import late
            return late.ANSWER

        def pids(**options):
            return set(Parallel(**options)(delayed(pid)(i) for i in range(6)))

        here = os.getpid()
        workers = {info["pid"] for info in Client.current().run(lambda: {"pid": os.getpid()}).values()}
        assert pids() <= workers, "no n_jobs"
        assert pids(n_jobs=-1) <= workers
        assert pids(n_jobs=3) <= workers
        assert pids(n_jobs=1) == {here}
        in_thread = []
        thread = threading.Thread(target=lambda: in_thread.append(pids()))
        thread.start(); thread.join()
        assert in_thread[0] <= workers, "a thread of the script's own"
        assert Parallel()(delayed(scaled)(i) for i in range(3)) == [(0, 7), (7, 7), (14, 7)]
        assert Parallel()(delayed(late)(i) for i in range(3)) == [42] * 3
        assert Client.current().submit(sum, [1, 2]).result() == 3
        with Client() as own:
            assert own.scheduler.address == Client.current().scheduler.address

        # a worker that restarts during the run must not run the script again
        os.kill(min(workers), signal.SIGKILL)
        assert Parallel()(delayed(scaled)(i) for i in range(40)) == [(7 * i, 7) for i in range(40)]
        print("passed")
    """
    ended = local_runs.run(script)
    assert (ended.returncode, ended.stdout) == (0, "passed\n"), ended.stderr
    assert (tmp_path / "starts").read_text() == "x"


def test_record_of_a_run(local_runs: LocalRuns) -> None:
    ended = local_runs.run("print('hello')", "--json", arguments=["7"])
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    record = ended.record
    assert events[-1] == {"kind": "record", "record": record}
    assert (record["program"], record["arguments"], record["place"]) == ("train.py", ["7"], "local")
    assert record["why"] == "running on this machine: `--on` is `local`"
    assert [step["name"] for step in record["steps"]] == [
        "start the scheduler",
        "connect",
        "wait for the first worker",
        "run the program",
        "remove the cluster",
    ]
    assert all(step["seconds"] >= 0 for step in record["steps"])
    assert record["versions"]["scikit-learn"]
    assert record["workers"][-1]["asked"] == 2
    assert record["numbers"]["processor"]
    assert [line for line in record["numbers"]["because"] if not line.startswith("inner threads: ")] == []
    assert record["outcome"] == {"status": "succeeded", "exit_code": 0, "cause": None, "cleanup": None}


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        ("import sys; sys.exit(3)", 3, None),
        ("import os; os._exit(9)", 9, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, None),
        ("raise ValueError('no such column')", 1, "ValueError: no such column"),
    ],
)
def test_exit_status_is_that_of_the_script(
    tmp_path: Path, local_runs: LocalRuns, script: str, code: int, cause: str | None
) -> None:
    ended = local_runs.run(script)
    assert ended.returncode == code
    assert ended.record["outcome"] == {"status": "failed", "exit_code": code, "cause": cause, "cleanup": None}
    assert wait_until_gone(tmp_path) == []
    assert list(local_runs.scratch.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_stops_the_script_and_the_cluster(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals, code: int
) -> None:
    with piped(command(tmp_path, SEARCHING, "--workers", "2"), tmp_path, environment) as process:
        process.stdin.close()
        assert process.stdout.readline() == "searching\n"
        process.send_signal(number)
        process.stdout.read()
        assert process.wait(DEADLINE) == code
    assert record(tmp_path)["outcome"]["cause"] == f"stopped by {number.name}"
    assert wait_until_gone(tmp_path, working_in) == []


def test_no_process_outlives_a_killed_skjob(tmp_path: Path, environment: dict[str, str]) -> None:
    with subprocess.Popen(
        command(tmp_path, SEARCHING, "--workers", "2"), cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "searching\n"
        process.kill()
        process.wait()
        assert wait_until_gone(tmp_path) == []
    assert record(tmp_path)["outcome"]["status"] == "running"


def test_run_ends_at_its_max_time(tmp_path: Path, local_runs: LocalRuns) -> None:
    ended = local_runs.run(SEARCHING, "--max-time", "5s")
    assert ended.returncode == 125
    assert "error: the run has reached `--max-time`, 5 s" in ended.stderr
    assert ended.record["outcome"]["cause"] == "the run has reached `--max-time`, 5 s"
    assert wait_until_gone(tmp_path) == []


def test_run_without_a_kubeconfig_uses_this_machine(tmp_path: Path, local_runs: LocalRuns) -> None:
    ended = local_runs.run("print('hello')\n", "--workers", "500", on="auto", own_cluster=True)
    assert (ended.returncode, ended.stdout) == (0, "hello\n")
    first = ended.stderr.splitlines()[0]
    assert first.startswith("skjob: running on this machine: there is no usable kubeconfig")
    assert first.endswith(f"; {CPU_COUNT} workers, one for each core, instead of 500")
    assert wait_until_gone(tmp_path, working_in) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_output_and_warnings_of_fits_are_shown(local_runs: LocalRuns) -> None:
    script = """
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
        X, y = load_iris(return_X_y=True)
        GridSearchCV(LogisticRegression(max_iter=1), {"C": [1, 2]}, cv=3, verbose=2, n_jobs=-1).fit(X, y)
    """
    ended = local_runs.run(script)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("[CV] END") == 6
    assert "ConvergenceWarning: lbfgs failed to converge" in ended.stderr


FOREST = """
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score
    X, y = load_iris(return_X_y=True)
    print(cross_val_score(RandomForestClassifier(5, random_state={seed}), X, y, cv=4).tolist())
"""


def test_second_run_reuses_fits_of_the_first(local_runs: LocalRuns) -> None:
    first, second = (local_runs.run(FOREST.format(seed=0)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout
    message = "skjob: reused 4 of 4 fits from an earlier run"
    assert (message in first.stderr, message in second.stderr) == (False, True)
    assert first.record["fits"] == {"fits": 4, "found": 0, "repeated": 0, "kept": 4, "unseeded": 0, "kept_unseeded": 0}
    assert second.record["fits"] == {"fits": 4, "found": 4, "repeated": 0, "kept": 0, "unseeded": 0, "kept_unseeded": 0}


@pytest.mark.slow
def test_unseeded_fits_are_reused_with_resume(tmp_path: Path, local_runs: LocalRuns) -> None:
    def run(*options: str) -> FinishedRun:
        ended = local_runs.run(FOREST.format(seed=None), *options)
        assert ended.returncode == 0, ended.stderr
        return ended

    run("--checkpoint", "elsewhere")
    assert "4 fits were finished by an earlier run and done again" in run("--checkpoint", "elsewhere").stderr
    assert "reused 4 of 4 fits from an earlier run" in run("--checkpoint", "elsewhere", "--resume").stderr
    assert not (tmp_path / ".skjob" / "fits").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--resume", "--checkpoint", "none"],
            "`--resume` reuses kept fits, and `--checkpoint none` keeps none",
        ),
        (["--checkpoint", "nosuch://here"], "fsspec does not know the address `nosuch://here`"),
        (["--checkpoint", "~nosuchuser/fits"], "`~nosuchuser/fits` is not a path: there is no user `nosuchuser`"),
        (["--retries", "many"], "`--retries` must be a number from 0 to 10, not `many`"),
    ],
)
def test_invalid_options_are_rejected(local_runs: LocalRuns, options: list[str], message: str) -> None:
    ended = local_runs.run("print('never')", *options)
    assert (ended.returncode, ended.stdout) == (120, "")
    assert f"error: {message}" in ended.stderr


class ApiWithoutDask(BaseHTTPRequestHandler):
    """Responds to every request as an API server does for an unknown kind."""

    def do_GET(self) -> None:
        body = json.dumps({"kind": "Status", "code": 404, "message": "the server could not find the resource"}).encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def runs_without_operator(tmp_path: Path, local_runs: LocalRuns) -> Iterator[LocalRuns]:
    """Runs with a kubeconfig for a cluster without the Dask operator."""
    with ThreadingHTTPServer(("127.0.0.1", 0), ApiWithoutDask) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "plain",
            "clusters": [{"name": "plain", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "plain", "context": {"cluster": "plain", "user": "me"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(kubeconfig))
        local_runs.environment["KUBECONFIG"] = str(path)
        yield local_runs
        server.shutdown()


def test_missing_operator_is_an_error_on_kubernetes(runs_without_operator: LocalRuns) -> None:
    ended = runs_without_operator.run("print('never')", on="kubernetes")
    assert (ended.returncode, ended.stdout) == (123, "")
    assert ended.stderr.splitlines()[-3:] == [
        "error: the cluster of context `plain` has no Dask operator",
        "",
        "hint: `skjob install --context plain` installs it",
    ]


def test_run_without_the_operator_uses_this_machine(runs_without_operator: LocalRuns) -> None:
    ended = runs_without_operator.run("print('here')", on="auto")
    assert (ended.returncode, ended.stdout) == (0, "here\n")
    why = "skjob: running on this machine: the cluster of context `plain` has no Dask operator"
    assert ended.stderr.splitlines()[0] == why


def test_adaptive_workers_start_for_pending_tasks(local_runs: LocalRuns) -> None:
    script = f"""
        import os, time
        from joblib import Parallel, delayed
        def pid(_):
            time.sleep(0.5)
            return os.getpid()
        workers, end = set(), time.monotonic() + {DEADLINE}
        while len(workers) < 3 and time.monotonic() < end:
            workers |= set(Parallel()(delayed(pid)(i) for i in range(36)))
        print(len(workers))
    """
    ended = local_runs.run(script, "--workers", "1:3")
    assert (ended.returncode, ended.stdout) == (0, "3\n"), ended.stderr
    counts = [at["connected"] for at in ended.record["workers"]]
    assert (counts[0], max(counts)) == (1, 3)


def test_python_api_can_be_used_repeatedly(tmp_path: Path, environment: dict[str, str]) -> None:
    """Also after an error. `skjob.cluster` stays the function, although a subpackage has its name."""
    script = """
        import os, skjob
        from joblib import Parallel, delayed
        for workers in (1, "3:1", 2):
            try:
                with skjob.cluster(workers=workers, on="local") as client:
                    print(len(client.ncores()), os.getpid() in Parallel()(delayed(os.getpid)() for _ in range(4)))
            except skjob.errors.ConfigError as error:
                print(error.message)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script).replace("import os, skjob", "import os, skjob, skjob.errors")],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert ended.stdout.splitlines() == [
        "1 False",
        "`workers=` must have a minimum, 3, that is not above its maximum, 1, not `3:1`",
        "2 False",
    ], ended.stderr
    assert wait_until_gone(tmp_path) == []


def test_cluster_in_a_run_is_the_runs_cluster(local_runs: LocalRuns) -> None:
    script = """
        from dask.distributed import Client
        import skjob
        with skjob.cluster(workers=1, on="kubernetes") as client:
            print(client is Client.current(), len(client.ncores()))
        kept = skjob.Cluster(1)
        print(kept.client is Client.current(), kept.status, bool(kept.dashboard_link))
        try:
            kept.scale(4)
        except Exception as error:
            print(error)
        kept.close()
        print(Client.current().submit(sum, [1, 2]).result())
    """
    done = local_runs.run(script)
    message = "the cluster is that of this run, whose workers `--workers` chooses"
    assert done.stdout == f"True 2\nTrue ready False\n{message}\n3\n"
    assert "skjob: `skjob.cluster()` uses the cluster of this run, with the run's own options\n" in done.stderr


@pytest.mark.parametrize("closed", [pytest.param("0<&-", marks=pytest.mark.slow), "2>&-", "0<&- 2>&-"])
def test_run_with_closed_streams(tmp_path: Path, environment: dict[str, str], closed: str) -> None:
    script = "import sys; print(sys.stdin.read(), 'done'); print('lost', file=sys.stderr)"
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(tmp_path, script, "--workers", "1")]
    ended = subprocess.run(
        shell, cwd=tmp_path, env=environment, capture_output=True, stdin=None if "0" in closed else subprocess.DEVNULL,
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (ended.stdout, ended.returncode) == (" done\n", 0), ended.stderr
    assert ("lost\n" in ended.stderr) == ("2" not in closed)


@pytest.mark.parametrize("options", [[], ["--json"], ["-v"]])
def test_run_continues_after_stderr_is_closed(tmp_path: Path, environment: dict[str, str], options: list[str]) -> None:
    script = """
        import sys
        print("started", flush=True)
        sys.stdin.read()
        print("done")
    """
    with piped(command(tmp_path, script, "--workers", "1", *options), tmp_path, environment) as run:
        assert run.stdout.readline() == "started\n"
        run.stderr.close()
        run.stdin.close()
        assert run.stdout.read() == "done\n"
        assert run.wait(DEADLINE) == 0
    assert record(tmp_path)["steps"][-1]["name"] == "remove the cluster"
    assert wait_until_gone(tmp_path, working_in) == []


def test_run_ends_cleanly_after_its_terminal_is_closed(tmp_path: Path, environment: dict[str, str]) -> None:
    """The run gets SIGHUP, and can no longer write to stderr."""
    script = """
        import time
        print("started", flush=True)
        time.sleep(600)
    """
    leader, follower = os.openpty()
    with subprocess.Popen(
        command(tmp_path, script, "--workers", "1"), cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdin=follower, stdout=subprocess.PIPE, stderr=follower,
    ) as run:  # fmt: skip
        os.close(follower)
        assert run.stdout is not None
        assert run.stdout.readline() == "started\n"
        os.close(leader)
        run.send_signal(signal.SIGHUP)
        assert run.wait(DEADLINE) == 128 + signal.SIGHUP
    ended = record(tmp_path)
    assert ended["outcome"]["cause"] == "stopped by SIGHUP"
    assert ended["steps"][-1]["name"] == "remove the cluster"
    assert wait_until_gone(tmp_path) == []


def test_long_error_message_is_shown_once(local_runs: LocalRuns) -> None:
    script = "raise ValueError('\\nAll the 4 fits failed.\\nBelow are more details')"
    ended = local_runs.run(script)
    assert "skjob: the program failed, ValueError: All the 4 fits failed.\n" in ended.stderr
    assert ended.stderr.splitlines().count("Below are more details") == 1  # as part of the traceback
    assert ended.record["outcome"]["cause"] == "ValueError: All the 4 fits failed.\nBelow are more details"


def test_readme_program_for_any_dask_client(local_runs: LocalRuns) -> None:
    """`Client()` connects to a running cluster here; examples/any_dask_client.py starts one."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [program] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "Client()" in block]
    before = """
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC
        X, y = load_iris(return_X_y=True)
        search = GridSearchCV(SVC(), {"C": [1, 10]})
    """
    local_runs.environment |= local_runs.clusters.dask_client_variables()
    ended = local_runs.python(f"{textwrap.dedent(before)}{program}    print(search.best_params_)\n")
    assert (ended.stdout, ended.returncode) == ("{'C': 10}\n", 0), ended.stderr
    assert list((local_runs.folder / "fits").iterdir())
