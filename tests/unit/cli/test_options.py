"""Test how each command reports invalid requests: all problems at once, under the given names, with its own help."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer
import yaml

import skjob
from skjob.cli.commands.doctor import doctor
from skjob.cli.commands.down import down
from skjob.cli.commands.install import install
from skjob.cli.commands.run import run
from skjob.cli.commands.up import up
from skjob.config import sources
from skjob.config.settings import Settings
from skjob.errors import AccessError, ConfigError

pytestmark = pytest.mark.unit

DURATION = "must be a duration such as `90s`, `5m` or `1h30m`"
QUANTITY = "must be a quantity such as `500m`, `2` or `2Gi`"
WORKERS = "must be a number of workers, `4`, or a range, `1:20`"
NAME = (
    "must be at most 37 lower-case letters, digits and hyphens, starting with a letter"
    " and ending with a letter or digit"
)
NAMESPACE = "must be at most 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit"
TRAVELS = "the file travels with each run, and leaves with it"
NO_SCRIPT = "check the path; it is relative to the working directory"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without settings and without a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    for name in Settings.__dataclass_fields__:
        monkeypatch.delenv(f"SKJOB_{name.upper()}", raising=False)
    return tmp_path


def _typed(*arguments: str) -> None:
    app = typer.Typer()
    for command in (run, up, down, doctor, install):
        app.command()(command)
    app(list(arguments), standalone_mode=False)


def _help(command: str) -> str:
    return f"`skjob {command} --help` lists the options and their defaults"


@pytest.mark.parametrize(
    ("typed", "problems", "hint"),
    [
        ("up x --idle-timeout z", [f"`--idle-timeout` {DURATION}, not `z`"], _help("up")),
        (
            "up A_B --workers x --idle-timeout z",
            [
                f"the name of a cluster {NAME}, not `A_B`",
                f"`--workers` {WORKERS}, not `x`",
                f"`--idle-timeout` {DURATION}, not `z`",
            ],
            _help("up"),
        ),
        (
            "up A_B --set-env PATH=/x --secret-env no-name --set-env MY_UNSET",
            [
                f"the name of a cluster {NAME}, not `A_B`",
                "`--set-env` cannot set `PATH`: workers have their own, from skjob, Kubernetes, Python or the system",
                "`--secret-env` needs names of letters, digits and `_`, no digit first, not `****`",
            ],
            _help("up"),
        ),
        (
            "up anna --secret-env MY_UNSET --set-env MY_OTHER",
            [
                "`--set-env` finds no `MY_OTHER` in your environment",
                "`--secret-env` finds no `MY_UNSET` in your environment",
            ],
            "export it, or give its value; export it, and give its name alone, without `$`",
        ),
        (
            f"up anna --set-env GOOGLE_APPLICATION_CREDENTIALS={__file__}",
            [f"`skjob up` cannot set `GOOGLE_APPLICATION_CREDENTIALS`: {TRAVELS}"],
            "leave it out here, and set it where you run programs",
        ),
        (
            "run nope.py --env TOKEN=abc --set-env MY_UNSET",
            [
                "`--env` is what pods must have installed; a variable is set with `--set-env NAME=VALUE`",
                "there is no script `nope.py`",
            ],
            f"{_help('run')}; {NO_SCRIPT}",
        ),
        (
            "run nope.py --set-env MY_UNSET",
            ["`--set-env` finds no `MY_UNSET` in your environment", "there is no script `nope.py`"],
            f"export it, or give its value; {NO_SCRIPT}",
        ),
        (
            "doctor --timeout y --worker-cpu x --worker-memory z",
            [
                f"`--timeout` {DURATION}, not `y`",
                f"`--worker-cpu` {QUANTITY}, not `x`",
                f"`--worker-memory` {QUANTITY}, not `z`",
            ],
            _help("doctor"),
        ),
        (
            "install --timeout y --worker-cpu x",
            [f"`--timeout` {DURATION}, not `y`", f"`--worker-cpu` {QUANTITY}, not `x`"],
            _help("install"),
        ),
        (
            "run nope.py --on moon --grace 1s",
            [
                "`--on` must be one of `auto`, `kubernetes`, `local`, not `moon`",
                "`--grace` must be a duration of at least `10s`, not `1s`",
                "there is no script `nope.py`",
            ],
            f"{_help('run')}; {NO_SCRIPT}",
        ),
        (
            "run nope.py --on local --keep",
            ["`--keep` needs a cluster that outlives skjob", "there is no script `nope.py`"],
            f"leave out `--on`; {NO_SCRIPT}",
        ),
        *(
            (f"{typed} --namespace BAD_ns", [f"`--namespace` {NAMESPACE}, not `BAD_ns`"], _help(typed.split()[0]))
            for typed in ("install --dry-run", "doctor", "doctor --role", "down x", "up x")
        ),
    ],
)
def test_all_that_is_wrong_at_once_and_whose_help_tells_more(
    typed: str, problems: list[str], hint: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        _typed(*typed.split())
    assert (caught.value.problems, caught.value.hint) == (problems, hint)
    assert capsys.readouterr().out == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("typed", ["run nope.py --keep", "run nope.py --cluster anna", "up anna"])
def test_who_has_set_this_machine_elsewhere_is_told_where(typed: str, folder: Path) -> None:
    (folder / "skjob.toml").write_text('on = "local"\n')
    with pytest.raises(ConfigError) as caught:
        _typed(*typed.split())
    assert caught.value.hint.startswith(f"leave out `on` in `{folder / 'skjob.toml'}`")


def test_in_python_the_hint_is_no_commands() -> None:
    with pytest.raises(ConfigError) as caught, skjob.cluster(workers=-1, on="local"):
        pass
    assert caught.value.message == f"`workers=` {WORKERS}, not `-1`"
    assert caught.value.hint == "`help(skjob.cluster)` lists the arguments and their defaults"


def test_a_role_is_for_the_namespace_of_the_project_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "skjob.toml").write_text('namespace = "team-a"\n')
    _typed("doctor", "--role")
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["namespace"] == "team-a"


@pytest.fixture
def kubeconfig(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig with a context for each of two teams."""
    teams = ("team-b", "team-c")
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "team-b",
        "clusters": [{"name": "lab", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "ann", "user": {"token": "t"}}],
        "contexts": [{"name": each, "context": {"cluster": "lab", "user": "ann", "namespace": each}} for each in teams],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize("command", ["doctor --role", "install --dry-run --image x:1"])
def test_what_is_printed_is_for_the_namespace_of_the_context(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    definitions = "skjob.deploy.kubernetes.operator.manifests.custom_resource_definitions"
    monkeypatch.setattr(definitions, list)  # a megabyte, without a namespace
    for options, namespace in (("", "team-b"), ("--context team-c", "team-c"), ("--namespace own", "own")):
        _typed(*command.split(), *options.split())
        *_, printed = yaml.load_all(capsys.readouterr().out, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        assert printed["metadata"]["namespace"] == namespace
    with pytest.raises(AccessError, match="the kubeconfig has no context `mars`"):
        _typed(*command.split(), "--context", "mars")


def test_each_option_of_a_run_is_a_setting_or_known_to_be_none() -> None:
    options = {
        option for option in run.__annotations__ if option not in ("ctx", "program", "arguments", "module", "return")
    }
    assert options == {*Settings.__dataclass_fields__, *sources.OPTIONS_ALONE}


def test_each_argument_of_a_cluster_is_a_setting_and_which_are_none_is_told() -> None:
    told = Path(__file__).parents[3].joinpath("docs", "reference", "python.md").read_text()
    arguments = set(inspect.signature(skjob.cluster).parameters) - {"name"}
    missing = {*Settings.__dataclass_fields__, *sources.OPTIONS_ALONE} - arguments - {"cluster"}
    assert arguments <= set(Settings.__dataclass_fields__)
    assert missing == {"max_time", "keep_time", "keep", "resume", "mlflow", "json", "verbose", "quiet"}
    _, _, sentence = told.partition("These are for the command alone")
    sentence, _, _ = sentence.partition("A cluster to use by name")
    options = {f"--{name.replace('_', '-')}" for name in missing - {"verbose"}} | {"-v"}
    assert [option for option in options if f"`{option}`" not in sentence] == []
