"""Test the command line as a shell sees it: its output, errors and exit statuses, and how light it is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from clocks import DEADLINE

from skjob.cli import app
from skjob.cli.options import hint_if_forbidden
from skjob.errors import ForbiddenError

HEAVY = ("distributed", "dask", "sklearn", "joblib", "kubernetes", "pydantic", "rich", "yaml", "numpy", "pandas")
WORKERS = "must be a number of workers, `4`, or a range, `1:20`"
OPTIONS = "`skjob run --help` lists the options and their defaults"


def _environment(folder: Path) -> dict[str, str]:
    """Remove the user's own settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SKJOB_", "KUBE"))}
    return {**environ, "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}


def _process(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `skjob` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "skjob", *arguments],
        cwd=folder,
        env={**_environment(folder), **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@dataclass
class Ended:
    """Result like a `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def skjob(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `skjob` in this process, with the same output and exit status as in a process of its own."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(os, "environ", _environment(folder))
    monkeypatch.setattr(app, "freeze", lambda: None)  # this process goes on
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # pytest's argv differs

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["skjob", *arguments])
        with pytest.raises(SystemExit) as ended:
            app.main()
        written = capsys.readouterr()
        return Ended(int(ended.value.code or 0), written.out, written.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("open('ran', 'w')\n")
    return tmp_path


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help(skjob: Callable[..., Ended], arguments: list[str]) -> None:
    ended = skjob(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Run a scikit-learn program, unchanged, on your own Kubernetes cluster." in ended.stdout
    commands = ended.stdout.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in commands if line[2:3].strip()] == [
        "run",
        "runs",
        "show",
        "report",
        "up",
        "ps",
        "dashboard",
        "down",
        "gc",
        "costs",
        "install",
        "doctor",
        "schema",
        "env",
    ]


def test_help_of_run_names_every_option(skjob: Callable[..., Ended]) -> None:
    ended = skjob("run", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    options = (
        "--workers --on --context --namespace --image --worker-cpu --worker-memory --start-timeout --max-time --grace "
        "--keep --json --verbose"
    )
    assert [option for option in options.split() if option not in ended.stdout] == []


def test_version(folder: Path) -> None:
    ended = _process("--version", folder=folder)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"skjob {version('skjob')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["fly"], "no such command 'fly'", "`skjob --help` lists what there is"),
        (["--xyzzy"], "no such option: --xyzzy", "`skjob --help` lists what there is"),
        (["run"], "missing argument 'program'", "`skjob run --help` lists what there is"),
        (
            ["run", "--xyzzy", "train.py"],
            "no such option: --xyzzy",
            (
                "`skjob run --help` lists what there is; "
                "the script's own arguments go after it: `skjob run train.py --depth 3`"
            ),
        ),
        (["run", "--workers"], "option '--workers' requires an argument", "`skjob --help` lists what there is"),
        (
            ["costs", "--by", "planet"],
            "invalid value for '--by': 'planet' is not one of 'user', 'month', 'pool', 'program', 'namespace'",
            "`skjob costs --help` lists what there is",
        ),
        (["run", "--workers", "0", "train.py"], "`--workers` must be at least 1, not `0`", OPTIONS),
        (["run", "--workers", "-1", "train.py"], f"`--workers` {WORKERS}, not `-1`", OPTIONS),
        (["run", "--workers", "many", "train.py"], f"`--workers` {WORKERS}, not `many`", OPTIONS),
        (
            ["run", "--workers", "5:2", "train.py"],
            "`--workers` must have a minimum, 5, that is not above its maximum, 2, not `5:2`",
            OPTIONS,
        ),
        (
            ["run", "--workers", "0", "--on", "mars", "train.py"],
            (
                "2 problems:\n  - `--workers` must be at least 1, not `0`\n"
                "  - `--on` must be one of `auto`, `kubernetes`, `local`, not `mars`"
            ),
            OPTIONS,
        ),
        (
            ["run", "--on", "local", "trian.py"],
            "there is no script `trian.py`",
            "check the path; it is relative to the working directory",
        ),
        (["run", "--on", "local", "."], "`.` is a folder", "name the script to run in it"),
        (
            ["run", "--on", "local", "--keep", "train.py"],
            "`--keep` needs a cluster that outlives skjob",
            "leave out `--on`",
        ),
    ],
)  # fmt: skip
def test_one_error_one_hint_and_no_traceback(
    skjob: Callable[..., Ended], folder: Path, arguments: list[str], message: str, hint: str
) -> None:
    ended = skjob(*arguments)
    assert (ended.stderr, ended.stdout, ended.returncode) == (f"error: {message}\n\nhint: {hint}\n", "", 120)
    assert [path.name for path in folder.iterdir()] == ["train.py"]  # nothing was started


def test_an_option_after_the_script_is_told(skjob: Callable[..., Ended], folder: Path) -> None:
    ended = skjob("run", "train.py", "--workers", "0")
    line = "write options before the script: `skjob run --workers 0 train.py`"
    assert ended.stderr.startswith(f"skjob: {line}; after it `--workers` will be the script's own from 0.2 on\nerror: ")
    assert "`--workers` must be at least 1, not `0`" in ended.stderr
    assert [path.name for path in folder.iterdir()] == ["train.py"]


def test_help_after_the_script_is_told_too(skjob: Callable[..., Ended]) -> None:
    ended = skjob("run", "train.py", "--help")
    assert "Options stand before the program" in ended.stdout
    assert ended.stderr.startswith("skjob: write options before the script: `skjob run --help train.py`")
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("module", "message", "hint"),
    [
        ("proj.trian", "there is no module `proj.trian`", None),
        ("proj", "`proj` is a package without a module `__main__`", "name a module in it: `-m proj.train`"),
        (
            "train.py",
            "there is no module `train.py`: `train` is not a package",
            "leave out `-m` to run the file `train.py`",
        ),
        ("proj/train", "`proj/train` is not the name of a module", "leave out `-m` to run a file"),
        (
            "proj.wrong",
            "`{folder}/proj/wrong.py:1:1` is not valid Python: invalid syntax",
            "fix the script; nothing was started",
        ),
        ("sys", "the module `sys` is part of Python itself and has no file", "name a module of yours"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_module_is_one_error(
    skjob: Callable[..., Ended], folder: Path, module: str, message: str, hint: str | None
) -> None:
    (folder / "proj").mkdir()
    (folder / "proj" / "__init__.py").write_text("raise SystemExit('this package was run')\n")
    (folder / "proj" / "wrong.py").write_text("= 1\n")
    ended = skjob("run", "--on", "local", "-m", module)
    told = (
        hint
        or "the module is looked for in the working directory, then where Python finds modules; nothing was started"
    )
    expected = f"error: {message.format(folder=folder)}\n\nhint: {told}\n"
    assert (ended.stderr, ended.stdout, ended.returncode) == (expected, "", 120)
    assert sorted(path.name for path in folder.iterdir()) == ["proj", "train.py"]


def test_a_relative_import_in_a_script_is_told_with_the_command_to_use(
    skjob: Callable[..., Ended], folder: Path
) -> None:
    (folder / "proj").mkdir()
    (folder / "proj" / "train.py").write_text("import json\nfrom .model import make\n")
    ended = skjob("run", "--on", "local", "proj/train.py")
    message = "`proj/train.py:2` is a relative import, which a script that is run by its path cannot do"
    hint = "run it as a module of its package: `skjob run -m proj.train`"
    assert (ended.stderr, ended.returncode) == (f"error: {message}\n\nhint: {hint}\n", 120)


def test_an_error_of_a_process(folder: Path) -> None:
    """It uses the name by which it was called."""
    ended = _process("run", "--xyzzy", "train.py", folder=folder)
    hint = "`python -m skjob run --help` lists what there is"
    assert (ended.stderr, ended.stdout, ended.returncode) == (
        f"error: no such option: --xyzzy\n\nhint: {hint}\n",
        "",
        120,
    )
    assert [path.name for path in folder.iterdir()] == ["train.py"]


def test_a_variable_and_a_file_are_named_where_they_are_wrong(
    skjob: Callable[..., Ended], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "skjob.toml").write_text('grace = "1s"\n')
    monkeypatch.setitem(os.environ, "SKJOB_WORKERS", "none")
    ended = skjob("run", "train.py")
    assert ended.stderr.splitlines()[:3] == [
        "error: 2 problems:",
        f"  - `grace` in `{folder / 'skjob.toml'}` must be a duration of at least `10s`, not `1s`",
        f"  - `SKJOB_WORKERS` {WORKERS}, not `none`",
    ]
    assert ended.returncode == 120


def test_with_json_an_error_is_a_line_too(skjob: Callable[..., Ended]) -> None:
    ended = skjob("run", "--on", "local", "--json", "trian.py")
    hint = "check the path; it is relative to the working directory"
    assert json.loads(ended.stderr.splitlines()[0]) == {
        "kind": "error",
        "text": "there is no script `trian.py`",
        "hint": hint,
    }
    assert ended.returncode == 120


def test_schema_is_json_on_stdout(skjob: Callable[..., Ended]) -> None:
    ended = skjob("schema")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["title"] == "skjob job file"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_light(folder: Path, arguments: list[str]) -> None:
    """skjob responds in less time than these would take to import."""
    code = (
        "import sys\n"
        f"sys.argv = ['skjob', *{arguments!r}]\n"
        "from skjob.cli.app import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(sorted(set(sys.modules) & set({HEAVY!r})), len(sys.modules), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=DEADLINE, check=False
    )
    heavy, _, number = ended.stderr.strip().rpartition(" ")
    assert (ended.returncode, heavy) == (0, "[]")
    assert int(number) < 400


@pytest.mark.parametrize(("all_namespaces", "hint"), [(True, "leave out `--all-namespaces`"), (False, "ask for it")])
def test_who_may_not_look_everywhere_may_look_into_one_namespace(all_namespaces: bool, hint: str) -> None:
    with pytest.raises(ForbiddenError, match="cannot list") as caught, hint_if_forbidden(all_namespaces=all_namespaces):
        raise ForbiddenError("cannot list jobs", "ask for it")
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("kind", ["grid", "gird"])
def test_a_job_file_takes_no_arguments(skjob: Callable[..., Ended], folder: Path, kind: str) -> None:
    (folder / "iris.csv").write_text("a,y\n1,0\n")
    (folder / "job.yaml").write_text(
        f"estimator: {{class: sklearn.svm.SVC}}\nsearch: {{kind: {kind}}}\nspace: {{C: [1, 10]}}\n"
        "data: {path: iris.csv, target: y}\noutputs: {model: best.joblib}\n"
    )
    ended = skjob("run", "--on", "local", "job.yaml", "--depth", "3 4")
    problems = [line.removeprefix("  - ").removeprefix("error: ") for line in ended.stderr.splitlines()]
    assert "a job file takes no arguments, and there are `--depth '3 4'`" in problems
    assert any("`gird` is not one of" in problem for problem in problems) == (kind == "gird")
    assert ended.returncode == 120
    assert not (folder / ".skjob").exists()


def test_what_the_encoding_of_stdout_has_not_is_replaced(folder: Path) -> None:
    variables = {"PYTHONIOENCODING": "latin-1", "KUBECONFIG": "/nonexistent"}
    ended = _process("doctor", "--skip-image", folder=folder, **variables)
    assert (ended.stderr, ended.returncode) == ("", 121)
    assert "? " in ended.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["schema", "--version", "env --json"])
def test_a_stdout_that_is_full_is_told_as_such(folder: Path, arguments: str, unbuffered: str) -> None:
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "NO_COLOR": "1"}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "skjob", *arguments.split()]
        ended = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            cwd=folder, env=environ, timeout=DEADLINE,
        )  # fmt: skip
    assert (ended.stderr, ended.returncode) == ("error: stdout cannot be written: No space left on device\n", 120)


def test_an_interrupt_while_the_command_is_imported(folder: Path) -> None:
    (folder / "typer.py").write_text("raise KeyboardInterrupt\n")  # as Ctrl-C does; imported before typer itself
    ended = _process("--version", folder=folder)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("", "", 130)
