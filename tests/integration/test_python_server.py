"""Programs that the Python server forks behave as with a new `python` process."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from local_runs import user_environment
from support import python_server
from waiting import DEADLINE, until

PROCESSES = """
    import atexit, multiprocessing, os, pickle, sys, threading
    from concurrent.futures import ProcessPoolExecutor
    from joblib import Parallel, delayed
    import neighbour

    class Own:
        pass

    def double(x):
        return 2 * x + neighbour.ONE

    if __name__ == "__main__":
        print(__name__, os.path.basename(__file__), __spec__, __package__, __doc__, sorted(set(globals()) - {"Own"}))
        print(sys.argv, sys.stdin.read(), os.environ["OWN"], os.path.basename(os.getcwd()))
        print(pickle.loads(pickle.dumps(Own())).__class__ is Own)
        for method in ("fork", "spawn"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                print(method, pool.map(double, range(3)))
        print(Parallel(n_jobs=2)(delayed(double)(x) for x in range(3)))
        atexit.register(print, "at exit")
        threading.Timer(0, print, ["in a thread"]).start()
        sys.exit(3)
"""
ERROR = "import sys; print(sys.argv, flush=True); raise ValueError('wrong')\n"
MODULE = "print(__name__, __package__, __spec__.name); from . import other; import sys; print(sys.argv[1:])\n"


@pytest.mark.parametrize("arguments", [["program.py", "--depth", "3"], ["error.py"], ["-m", "package.module", "-x"]])
def test_forked_program_behaves_as_in_a_new_process(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(PROCESSES))
    (tmp_path / "neighbour.py").write_text("ONE = 1\n")
    (tmp_path / "error.py").write_text(ERROR)
    package = tmp_path / "package"
    package.mkdir()
    for name, text in (("__init__", ""), ("module", MODULE), ("other", "print('other')\n")):
        (package / f"{name}.py").write_text(text)
    environment = user_environment(tmp_path) | {"OWN": "mine"}
    expected = python_server.run_new(arguments, tmp_path, environment, stdin="typed", timeout=DEADLINE)
    ended = python_server.run(arguments, tmp_path, environment, stdin="typed", timeout=DEADLINE)
    assert ended.stdout == expected.stdout
    assert ended.returncode == expected.returncode
    assert ended.stderr == expected.stderr


USER = """
    import os
    import sys
    from pathlib import Path
    from support import python_server

    for line in sys.stdin:
        ended = python_server.run(["parent.py"], Path.cwd(), os.environ, timeout=%s)
        print(ended.stdout or ended.stderr, end="", flush=True)
"""


@pytest.mark.slow  # every run of the tests relies on it
def test_processes_share_a_server_that_ends_with_the_last(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text("import os; print(os.getppid())\n")
    (tmp_path / "user.py").write_text(textwrap.dedent(USER % DEADLINE))
    environment = user_environment(tmp_path) | {"PYTEST_XDIST_TESTRUNUID": secrets.token_hex(8)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])

    def start_user() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "user.py"], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def server_of(user: subprocess.Popen[str]) -> int:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write("\n")
        user.stdin.flush()
        return int(user.stdout.readline())

    with start_user() as first, start_user() as second:
        server = server_of(first)
        assert server_of(second) == server
        first.communicate(timeout=DEADLINE)
        assert server_of(second) == server
        second.communicate(timeout=DEADLINE)
    until(lambda: not Path(f"/proc/{server}").exists(), "the server outlives its users")


def test_program_is_killed_after_its_timeout(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import signal\nprint('waiting', flush=True)\nsignal.pause()\n")
    environment = user_environment(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        python_server.run(["waits.py"], tmp_path, environment, timeout=0)
    with (tmp_path / "written").open("w") as out:
        process = python_server.ForkedProcess(["waits.py"], str(tmp_path), environment, {1: out.fileno()})
        until(lambda: (tmp_path / "written").read_text() == "waiting\n", "the program does not start")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        assert process.poll() is None
        process.kill()
        assert process.wait(DEADLINE) == -signal.SIGKILL
