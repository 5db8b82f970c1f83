"""Settings: what each value may be, which layer wins, and that every wrong one is told with its place."""

import os
from pathlib import Path
from typing import Any

import pytest

from skjob.config import sources
from skjob.config.parsers import (
    parse_cost,
    parse_cpu,
    parse_grace,
    parse_memory,
    parse_name,
    parse_namespace,
    parse_place,
    parse_seconds,
    parse_workers,
)
from skjob.config.settings import Place, Settings, WorkerRange
from skjob.config.sources import (
    CONFIGMAP_HINT,
    Layer,
    Problems,
    arguments,
    cluster_defaults,
    environment,
    flags,
    project,
    resolve,
)
from skjob.errors import ConfigError
from skjob.utils.units import parse_quantity

OPTIONS = "`skjob run --help` lists the options and their defaults"
NAMES = (
    "the settings are "
    "`on`, `context`, `namespace`, `image`, `arch`, `env`, `workers`, `worker-cpu`, `worker-memory`, `worker-gpu`, "
    "`node-pool`, `start-timeout`, "
    "`max-time`, `max-cost`, `grace`, `keep-time`, `checkpoint`, `retries`, `set-env`, `secret-env`"
)
QUANTITY = "must be a quantity such as `500m`, `2` or `2Gi`"
DURATION = "must be a duration such as `90s`, `5m` or `1h30m`"
NAMESPACE = "must be at most 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit"
WORKERS = "must be a number of workers, `4`, or a range, `1:20`"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_workers, "4", WorkerRange(4, 4)),
        (parse_workers, " 1:20 ", WorkerRange(1, 20)),
        (parse_workers, "0:5", WorkerRange(0, 5)),
        (parse_workers, "3:3", WorkerRange(3, 3)),
        (parse_quantity, "2", 2.0),
        (parse_quantity, "1.5", 1.5),
        (parse_quantity, "250m", 0.25),
        (parse_quantity, "3k", 3000.0),
        (parse_quantity, "3K", 3000.0),
        (parse_quantity, "1M", 1e6),
        (parse_quantity, "1MB", 1e6),
        (parse_quantity, "2G", 2e9),
        (parse_quantity, "2 GB", 2e9),
        (parse_quantity, "1T", 1e12),
        (parse_quantity, "1Ki", 1024.0),
        (parse_quantity, "1Mi", 2.0**20),
        (parse_quantity, "0.5Gi", 2.0**29),
        (parse_quantity, "1Ti", 2.0**40),
        (parse_cpu, "500m", 0.5),
        (parse_cpu, "10m", 0.01),
        (parse_cpu, "8", 8.0),
        (parse_memory, "2Gi", 2**31),
        (parse_memory, "128Mi", 2**27),
        (parse_memory, "800M", 800_000_000),
        (parse_memory, "2147483648", 2**31),
        (parse_seconds, "90", 90.0),
        (parse_seconds, "90s", 90.0),
        (parse_seconds, "0.5", 0.5),
        (parse_seconds, "5m", 300.0),
        (parse_seconds, "2h", 7200.0),
        (parse_seconds, "1h30m", 5400.0),
        (parse_seconds, " 1h1m1s ", 3661.0),
        (parse_cost, "5", 5.0),
        (parse_cost, " 0.50 ", 0.5),
        (parse_grace, "10s", 10.0),
        (parse_place, "auto", Place.AUTO),
        (parse_place, "kubernetes", Place.KUBERNETES),
        (parse_place, "local", Place.LOCAL),
        (parse_name, " team-a ", "team-a"),
        (parse_namespace, " team-a ", "team-a"),
        (parse_namespace, "0", "0"),
        (parse_namespace, "a" * 63, "a" * 63),
    ],
)
def test_values_that_are_taken(parse: Any, text: str, value: object) -> None:
    parsed = parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_workers, "0", "must be at least 1"),
        (parse_workers, "0:0", "must be at least 1"),
        (parse_workers, "5:2", "must have a minimum, 5, that is not above its maximum, 2"),
        (parse_workers, "-1", WORKERS),
        (parse_workers, "many", WORKERS),
        (parse_workers, "", WORKERS),
        (parse_workers, "2.5", WORKERS),
        (parse_workers, "1:", WORKERS),
        (parse_workers, ":2", WORKERS),
        (parse_workers, "1:2:3", WORKERS),
        (parse_workers, "1,2", WORKERS),
        (parse_quantity, "", QUANTITY),
        (parse_quantity, "-1", QUANTITY),
        (parse_quantity, "2gi", QUANTITY),
        (parse_quantity, "1e3", QUANTITY),
        (parse_quantity, "nan", QUANTITY),
        (parse_quantity, ".5", QUANTITY),
        (parse_quantity, "two", QUANTITY),
        (parse_cpu, "9m", "must be a number of cores, at least `10m`"),
        (parse_cpu, "0", "must be a number of cores, at least `10m`"),
        (parse_cpu, "one", QUANTITY),
        (parse_memory, "127Mi", "must be an amount of memory, at least `128Mi`"),
        (parse_memory, "2", "must be an amount of memory, at least `128Mi`"),
        (parse_memory, "lots", QUANTITY),
        (parse_seconds, "", DURATION),
        (parse_seconds, "soon", DURATION),
        (parse_seconds, "-5", DURATION),
        (parse_seconds, "5m1h", DURATION),
        (parse_seconds, "1d", DURATION),
        (parse_seconds, "0", "must be a duration longer than zero"),
        (parse_seconds, "0h0m0s", "must be a duration longer than zero"),
        (parse_seconds, "87601h", "must be a duration of at most ten years, `87600h`"),
        (parse_cost, "0", "must be an amount above zero, such as `5` or `0.50`"),
        (parse_cost, "-1", "must be an amount above zero, such as `5` or `0.50`"),
        (parse_cost, "5 USD", "must be an amount above zero, such as `5` or `0.50`"),
        (parse_grace, "9.9", "must be a duration of at least `10s`"),
        (parse_grace, "never", DURATION),
        (parse_place, "cloud", "must be one of `auto`, `kubernetes`, `local`"),
        (parse_place, "Local", "must be one of `auto`, `kubernetes`, `local`"),
        (parse_name, " ", "must be a name"),
        *((parse_namespace, text, NAMESPACE) for text in ("", "BAD_ns", "-a", "a-", "a.b", "ä", "a" * 64, "a\nb")),
    ],
)
def test_values_that_are_refused(parse: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("workers", "text", "adaptive"), [(WorkerRange(4, 4), "4", False), (WorkerRange(0, 4), "0:4", True)]
)
def test_a_range_as_it_is_written(workers: WorkerRange, text: str, adaptive: bool) -> None:
    assert (str(workers), workers.adaptive, parse_workers(text)) == (text, adaptive, workers)


def test_built_in_defaults() -> None:
    assert resolve([]).settings == Settings(
        on=Place.AUTO,
        context=None,
        namespace=None,
        image=None,
        workers=None,
        worker_cpu=None,
        worker_memory=None,
        start_timeout=300.0,
        max_time=None,
        grace=300.0,
        keep_time=14400.0,
    )


def _five_layers(folder: Path, number: int) -> list[Layer]:
    """The five sources, of which only the last `number` are set; each says who it is."""
    (folder / "skjob.toml").write_text('image = "of-the-project"' if number >= 2 else "")
    return [
        flags({"image": "of-the-flag" if number >= 4 else None}),
        environment({"SKJOB_IMAGE": "of-the-variable"} if number >= 3 else {}),
        project(folder),
        cluster_defaults({"image": "of-the-cluster"} if number >= 1 else {}, "ConfigMap team/skjob-defaults"),
    ]


@pytest.mark.parametrize(
    ("number", "image"),
    [(4, "of-the-flag"), (3, "of-the-variable"), (2, "of-the-project"), (1, "of-the-cluster"), (0, None)],
)
def test_flag_then_variable_then_project_then_cluster_then_built_in(
    tmp_path: Path, number: int, image: str | None
) -> None:
    assert resolve(_five_layers(tmp_path, number)).settings.image == image


def test_layers_fill_each_others_gaps() -> None:
    settings = resolve(
        [
            flags({"workers": "1:8", "image": None}),
            environment({"SKJOB_WORKER_MEMORY": "1Gi", "SKJOB_WORKERS": "3", "SKJOB_IMAGE": ""}),
            cluster_defaults({"namespace": "team", "worker-memory": "4Gi"}, "ConfigMap x"),
        ]
    ).settings
    assert settings == Settings(workers=WorkerRange(1, 8), worker_memory=2**30, namespace="team")


def test_the_configmap_is_one_more_layer_below_the_others() -> None:
    requested = resolve([flags({"workers": "1:8"}), environment({"SKJOB_IMAGE": "ours:1"})])
    below = cluster_defaults({"workers": "3", "image": "theirs:1", "worker-memory": "4Gi"}, "ConfigMap x")
    resolved = requested.over(below)
    assert resolved.settings == Settings(workers=WorkerRange(1, 8), image="ours:1", worker_memory=2**32)
    assert (resolved.given.values, resolved.called("image")) == ({"workers": "1:8"}, "`SKJOB_IMAGE`")
    assert resolved.called("worker_memory") == "`worker-memory` in `ConfigMap x`"
    with pytest.raises(ConfigError) as caught:
        requested.over(cluster_defaults({"workers": "many"}, "ConfigMap x"))
    assert caught.value.message == f"`workers` in `ConfigMap x` {WORKERS}, not `many`"
    assert caught.value.hint == CONFIGMAP_HINT


def test_each_value_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setitem(sources._PARSERS, "workers", lambda text: parsed.append(text) or parse_workers(text))
    resolve([flags({"workers": "2"})]).over(cluster_defaults({"workers": "3"}, "ConfigMap x"))
    assert parsed == ["2", "3"]


def test_arguments_of_the_python_api() -> None:
    assert resolve([arguments({"worker_cpu": "1.5", "grace": "20"})]).settings == Settings(worker_cpu=1.5, grace=20.0)


def test_every_problem_at_once_each_with_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "skjob.toml"
    file.write_text('worker-memory = "much"\nworkers = true\nmin-workers = 3\nimage = "fine"\n')
    layers = [
        flags({"workers": "many", "max_time": "0", "on": None}, "run"),
        environment({"SKJOB_WORKERS": "5:2", "SKJOB_OTHER": "not ours"}),
        project(tmp_path),
        cluster_defaults({"grace": "1s", "from-next-year": "1"}, "ConfigMap team/skjob-defaults"),
    ]
    with pytest.raises(ConfigError) as caught:
        resolve(layers)
    assert caught.value.message.splitlines() == [
        "7 problems:",
        "  - `grace` in `ConfigMap team/skjob-defaults` must be a duration of at least `10s`, not `1s`",
        f"  - `worker-memory` in `{file}` {QUANTITY}, not `much`",
        f"  - `workers` in `{file}` {WORKERS}, not `True`",
        f"  - `min-workers` in `{file}` is not a setting; did you mean `workers`?",
        "  - `SKJOB_WORKERS` must have a minimum, 5, that is not above its maximum, 2, not `5:2`",
        f"  - `--workers` {WORKERS}, not `many`",
        "  - `--max-time` must be a duration longer than zero, not `0`",
    ]
    assert caught.value.hint == f"{NAMES}; {OPTIONS}; {CONFIGMAP_HINT}"


def test_one_problem_is_told_without_a_list() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([arguments({"worker_cpu": "-1"})])
    assert caught.value.message == f"`worker_cpu=` {QUANTITY}, not `-1`"


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        (arguments({"wrokers": "4"}), "`wrokers=` is not a setting; did you mean `workers=`?"),
        (flags({"wrokers": "4"}), "`--wrokers` is not a setting; did you mean `--workers`?"),
        (flags({"quux": "4"}), "`--quux` is not a setting"),
        (cluster_defaults({"wrokers": "4"}, "ConfigMap x"), None),
        (environment({"SKJOB_MAX_TIEM": "4"}), "`SKJOB_MAX_TIEM` is not a setting; did you mean `SKJOB_MAX_TIME`?"),
        (
            environment({"SKJOB_IDLE_TIMEOUT": "1h"}),
            "`SKJOB_IDLE_TIMEOUT` is not a setting; did you mean `SKJOB_KEEP_TIME`?",
        ),
        *(
            (
                environment({f"SKJOB_{name.upper()}": "1"}),
                f"`SKJOB_{name.upper()}` is not a setting: it can only be given as `--{name}`",
            )
            for name in ("cluster", "keep", "resume", "json", "verbose")
        ),
        (environment({"SKJOB_TEST_CLUSTER": "ready", "SKJOB_WORKER_IS_RESTARTED": "1"}), None),
        (environment({"SKJOB_KIND_NODES": "offline", "SKJOB_BENCHMARK_JOINS_AT": "1", "SKJOB_KEEP": ""}), None),
        (
            environment({"SKJOB_MOST_WORKERS": "100"}),
            "`SKJOB_MOST_WORKERS` can only be set by the platform team, in the namespace's ConfigMap",
        ),
        (
            arguments({"prices": "[]"}),
            "`prices=` can only be set by the platform team, in the namespace's ConfigMap",
        ),
        (
            environment({"SKJOB_MAX_WORKERS": "100"}),
            "`SKJOB_MAX_WORKERS` can only be set by the platform team, in the namespace's ConfigMap",
        ),
        (cluster_defaults({"most-workers": "3", "limits.max-workers": "3"}, "ConfigMap x"), None),
    ],
)
def test_unknown_keys_where_they_can_only_be_mistakes(layer: Layer, told: str | None) -> None:
    if told is None:
        assert resolve([layer]).settings == Settings()
        return
    with pytest.raises(ConfigError) as caught:
        resolve([layer])
    assert caught.value.message == told


@pytest.mark.parametrize(
    ("files", "image"),
    [
        ({"a/b/skjob.toml": 'image = "b"', "skjob.toml": 'image = "root"'}, "b"),
        ({"a/pyproject.toml": '[tool.skjob]\nimage = "a"', "skjob.toml": 'image = "root"'}, "a"),
        ({"a/pyproject.toml": '[project]\nname = "other"', "skjob.toml": 'image = "root"'}, "root"),
        ({"a/skjob.toml": 'image = "own"', "a/pyproject.toml": '[project]\nname = "other"'}, "own"),
        ({"a/skjob.toml": 'image = "own"', "a/pyproject.toml": "[tool.skjob]"}, "own"),
        ({"a/skjob.toml": "", "a/pyproject.toml": '[tool.skjob]\nimage = "a"'}, "a"),
        ({"a/skjob.toml": 'image = "a"', "pyproject.toml": '[tool.skjob]\nimage = "root"'}, "a"),
        ({"a/skjob.toml": "", "skjob.toml": 'image = "root"'}, None),
        ({"a/b/c/skjob.toml": 'image = "below"'}, None),
    ],
)
def test_the_nearest_project_file_above_the_folder(tmp_path: Path, files: dict[str, str], image: str | None) -> None:
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert resolve([project(tmp_path / "a" / "b")]).settings.image == image


def test_settings_in_two_files_of_one_folder(tmp_path: Path) -> None:
    (tmp_path / "skjob.toml").write_text('image = "one"')
    (tmp_path / "pyproject.toml").write_text("[tool.skjob]\nworkers = 3")
    with pytest.raises(ConfigError) as caught:
        project(tmp_path)
    assert caught.value.message == f"`{tmp_path / 'skjob.toml'}` and `{tmp_path / 'pyproject.toml'}` both have settings"


@pytest.mark.parametrize(("mode", "refused"), [(0o1777, True), (0o775, False)])
def test_a_file_that_anybody_may_have_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool
) -> None:
    file = tmp_path / "skjob.toml"
    file.write_text('image = "theirs"')
    tmp_path.chmod(mode)
    assert resolve([project(tmp_path)]).settings.image == "theirs"  # one's own
    if os.getuid() == 0:
        os.chown(file, 4242, 4242)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    if not refused:
        assert resolve([project(tmp_path)]).settings.image == "theirs"
        return
    with pytest.raises(ConfigError) as caught:
        project(tmp_path / "below")
    assert caught.value.message == f"`{file}` belongs to another user, in a folder that everybody may write to"


def test_a_project_file_may_hold_numbers(tmp_path: Path) -> None:
    (tmp_path / "skjob.toml").write_text('workers = 3\nworker-cpu = 0.5\nstart_timeout = 20\non = "local"')
    assert resolve([project(tmp_path)]).settings == Settings(
        on=Place.LOCAL, workers=WorkerRange(3, 3), worker_cpu=0.5, start_timeout=20.0
    )


@pytest.mark.parametrize(
    ("content", "said"), [(b"workers = ", "Invalid value (at end of document)"), (b"\xff\xfe", "'utf-8' codec")]
)
def test_a_project_file_that_is_not_toml(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "skjob.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        project(tmp_path)
    assert caught.value.message.startswith(f"`{file}` is not valid TOML: {said}")
    assert caught.value.hint == "fix the file"


@pytest.mark.parametrize("content", ['tool = "x"', "[tool]\nskjob = 3", "tool.skjob = []"])
def test_a_project_file_with_the_wrong_shape(tmp_path: Path, content: str) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        project(tmp_path)
    assert caught.value.message == f"`[tool.skjob]` in `{file}` is not a table"


def test_a_project_file_that_can_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "skjob.toml"
    file.write_text("")
    file.chmod(0)
    try:
        file.read_text()
    except PermissionError:
        with pytest.raises(ConfigError) as caught:
            project(tmp_path)
        assert caught.value.message == f"`{file}` cannot be read: Permission denied"
    else:  # root reads everything
        assert resolve([project(tmp_path)]).settings == Settings()


def test_an_option_with_another_name_than_its_setting() -> None:
    assert resolve([flags({"idle_timeout": "2h"}, "up")]).settings.keep_time == 7200.0
    with pytest.raises(ConfigError) as caught:
        resolve([flags({"idle_timeout": "soon"}, "up"), environment({"SKJOB_KEEP_TIME": "never"})])
    assert caught.value.problems == [
        f"`SKJOB_KEEP_TIME` {DURATION}, not `never`",
        f"`--idle-timeout` {DURATION}, not `soon`",
    ]
    assert caught.value.hint == "`skjob up --help` lists the options and their defaults"


def test_all_checks_are_made_before_any_problem_is_told() -> None:
    problems = Problems()
    for message, hint in (("one", "a"), ("two", ""), ("three", "a"), ("four", "b")):
        with problems:
            raise ConfigError(message, hint)
    with problems:
        resolve([flags({"workers": "2"})])
    with pytest.raises(ConfigError) as caught:
        problems.raise_any()
    assert (caught.value.problems, caught.value.hint) == (["one", "two", "three", "four"], "a; b")


def test_one_wrong_check_raises_as_it_is_and_none_raises_nothing() -> None:
    problems = Problems()
    problems.raise_any()
    error = ConfigError("one", "a")
    with problems:
        raise error
    with pytest.raises(ConfigError) as caught:
        problems.raise_any()
    assert caught.value is error


def test_problems_take_no_other_error() -> None:
    with pytest.raises(KeyError), Problems():
        raise KeyError


def test_every_source_adds_variables_and_the_stronger_value_counts() -> None:
    file = Layer({"set_env": {"A": "file", "B": 1}, "secret_env": ["S"]}, lambda name: name, place="skjob.toml")
    exported = environment({"SKJOB_SET_ENV": "A=variable 'C=two words'", "SKJOB_SECRET_ENV": "T S"})
    requested = resolve([flags({"set_env": ["D=1", "A"], "secret_env": []}), exported, file])
    assert requested.settings.set_env == {"A": None, "B": "1", "C": "two words", "D": "1"}
    assert set(requested.settings.secret_env) == {"S", "T"}
    found = requested.variables({"A": "mine", "S": "sesame", "T": "cucumber"})
    assert found.ordinary == {"A": "mine", "B": "1", "C": "two words", "D": "1"}
    assert found.secret == {"S": "sesame", "T": "cucumber"}


def test_a_variable_is_secret_or_not_wherever_it_is_set() -> None:
    file = Layer({"secret_env": ["A", "B"]}, lambda name: name.replace("_", "-"), place="skjob.toml")
    with pytest.raises(ConfigError) as caught:
        resolve([flags({"set_env": ["A=very secret"]}), file])
    assert caught.value.message == (
        "`--set-env` and `secret-env` in `skjob.toml` both have `A`: a variable is either secret or not"
    )


def test_all_variables_that_are_refused_are_told_at_once_by_where_they_are_set() -> None:
    file = Layer({"set_env": {"HOME": "/x"}}, lambda name: name.replace("_", "-"), place="skjob.toml")
    with pytest.raises(ConfigError) as caught:
        resolve([flags({"set_env": ["PATH=/x", "OMP_NUM_THREADS=2"], "secret_env": ["9"]}, "run"), file])
    problems = caught.value.problems
    assert [problem.partition(":")[0] for problem in problems] == [
        "`set-env` in `skjob.toml` cannot set `HOME`",
        "`--set-env` cannot set `PATH`",
        "`--set-env` cannot set `OMP_NUM_THREADS`",
        "`--secret-env` needs names of letters, digits and `_`, no digit first, not `****`",
    ]
    assert caught.value.hint == OPTIONS


def test_variables_are_no_default_of_a_platform_team() -> None:
    """Whoever may write to the ConfigMap would get what is in a user's environment."""
    requested = resolve([flags({})])
    with pytest.raises(ConfigError) as caught:
        requested.over(cluster_defaults({"secret-env": "GITHUB_TOKEN"}, "skjob-defaults"))
    assert caught.value.message == (
        "`secret-env` in `skjob-defaults` is no default for others: each user sets variables for themselves"
    )


@pytest.mark.parametrize("value", ["TOKEN=very-secret", "A="])
def test_who_gives_a_variable_as_the_environment_of_pods_is_told_which_option_is_meant(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([flags({"env": value}, "run")])
    assert caught.value.message == (
        "`--env` is what pods must have installed; a variable is set with `--set-env NAME=VALUE`"
    )
