"""The command line as a shell sees it: its answers, its errors, its exit statuses, and how light it is."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

HEAVY = ("distributed", "dask", "sklearn", "joblib", "kubernetes", "pydantic", "rich", "yaml", "numpy", "pandas")
WORKERS = "must be a number of workers, `4`, or a range, `1:20`"
OPTIONS = "`skjob run --help` lists the options and their defaults"


def _skjob(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SKJOB_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "skjob", *arguments],
        cwd=folder,
        env={**environ, "HOME": str(folder), "NO_COLOR": "1", "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("open('ran', 'w')\n")
    return tmp_path


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help(folder: Path, arguments: list[str]) -> None:
    ended = _skjob(*arguments, folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Run a scikit-learn program, unchanged, on your own Kubernetes cluster." in ended.stdout
    commands = ended.stdout.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in commands if line.strip()] == [
        "run",
        "ps",
        "down",
        "install",
        "doctor",
        "schema",
        "env",
    ]


def test_help_of_run_names_every_option(folder: Path) -> None:
    ended = _skjob("run", "--help", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    options = (
        "--workers --on --context --namespace --image --worker-cpu --worker-memory --start-timeout --max-time --grace "
        "--keep --json --verbose"
    )
    assert [option for option in options.split() if option not in ended.stdout] == []


def test_version(folder: Path) -> None:
    ended = _skjob("--version", folder=folder)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"skjob {version('skjob')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["fly"], "no such command 'fly'", "`skjob --help` lists what there is"),
        (["--fly"], "no such option: --fly", "`skjob --help` lists what there is"),
        (["run"], "missing argument 'program'", "`skjob run --help` lists what there is"),
        (["run", "train.py", "--fly"], "no such option: --fly", "`skjob run --help` lists what there is"),
        (["run", "a.py", "--workers"], "option '--workers' requires an argument", "`skjob --help` lists what there is"),
        (["run", "train.py", "--workers", "0"], "`--workers` must be at least 1, not `0`", OPTIONS),
        (["run", "train.py", "--workers", "-1"], f"`--workers` {WORKERS}, not `-1`", OPTIONS),
        (["run", "train.py", "--workers", "many"], f"`--workers` {WORKERS}, not `many`", OPTIONS),
        (
            ["run", "train.py", "--workers", "5:2"],
            "`--workers` must have a minimum, 5, that is not above its maximum, 2, not `5:2`",
            OPTIONS,
        ),
        (
            ["run", "train.py", "--workers", "0", "--on", "mars"],
            (
                "2 problems:\n  - `--workers` must be at least 1, not `0`\n"
                "  - `--on` must be one of `auto`, `kubernetes`, `local`, not `mars`"
            ),
            OPTIONS,
        ),
        (
            ["run", "trian.py", "--on", "local"],
            "there is no script `trian.py`",
            "check the path; it is relative to the working directory",
        ),
        (["run", ".", "--on", "local"], "`.` is a folder", "name the script to run in it"),
        (
            ["run", "train.py", "--on", "local", "--keep"],
            "`--keep` needs a cluster that outlives skjob",
            "leave out `--on local`",
        ),
    ],
)  # fmt: skip
def test_one_error_one_hint_and_no_traceback(folder: Path, arguments: list[str], message: str, hint: str) -> None:
    ended = _skjob(*arguments, folder=folder)
    told = ended.stderr.replace("python -m skjob", "skjob")  # each calls itself as it was called
    assert (told, ended.stdout, ended.returncode) == (f"error: {message}\n\nhint: {hint}\n", "", 120)
    assert [path.name for path in folder.iterdir()] == ["train.py"]  # nothing was started


def test_a_variable_and_a_file_are_named_where_they_are_wrong(folder: Path) -> None:
    (folder / "skjob.toml").write_text('grace = "1s"\n')
    ended = _skjob("run", "train.py", folder=folder, SKJOB_WORKERS="none")
    assert ended.stderr.splitlines()[:3] == [
        "error: 2 problems:",
        f"  - `grace in {folder / 'skjob.toml'}` must be a duration of at least `10s`, not `1s`",
        f"  - `SKJOB_WORKERS` {WORKERS}, not `none`",
    ]
    assert ended.returncode == 120


def test_with_json_an_error_is_a_line_too(folder: Path) -> None:
    ended = _skjob("run", "trian.py", "--on", "local", "--json", folder=folder)
    hint = "check the path; it is relative to the working directory"
    assert json.loads(ended.stderr.splitlines()[0]) == {
        "kind": "error",
        "text": "there is no script `trian.py`",
        "hint": hint,
    }
    assert ended.returncode == 120


def test_schema_is_json_on_stdout(folder: Path) -> None:
    ended = _skjob("schema", folder=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["title"] == "skjob job file"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_light(folder: Path, arguments: list[str]) -> None:
    """skjob answers in less time than these would take to import."""
    code = (
        "import sys\n"
        f"sys.argv = ['skjob', *{arguments!r}]\n"
        "from skjob.cli.app import main\n"
        "try:\n    main()\n"
        f"finally:\n    print(sorted(set(sys.modules) & set({HEAVY!r})), len(sys.modules), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=60, check=False
    )
    heavy, _, number = ended.stderr.strip().rpartition(" ")
    assert (ended.returncode, heavy) == (0, "[]")
    assert int(number) < 400
