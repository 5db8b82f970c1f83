"""Which variables a user may set, how they are written, and that a message never shows a value."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.config.environment_variables import (
    GPUS_VARIABLE,
    MAX_ORDINARY_BYTES,
    MAX_SECRET_BYTES,
    NO_VARIABLES,
    Variables,
    can_be_set,
    parse_secret_env,
    parse_set_env,
    resolve_variables,
)
from skjob.deploy.fork_server import ENVIRONMENT
from skjob.deploy.kubernetes.manifests.pods import pod_environment
from skjob.engine.fidelity.settings import variables as travelling
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

CALLED = {"set_env": "`--set-env`", "secret_env": "`--secret-env`"}
OWN = "workers have their own, from skjob, Kubernetes, Python or the system"
THREADS = "threads change the last digits of results, and skjob sets them alike on all workers, from `worker-cpu`"
FIRST_SIX = "`PATH`, `HOME`, `SKJOB_WORKERS`, `DASK_X`, `KUBERNETES_HOST`, `MALLOC_X`"
NAMES = "needs names of letters, digits and `_`, no digit first"


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (["A=1", "B", "C=", "D=x=y $z"], {"A": "1", "B": None, "C": "", "D": "x=y $z"}),
        ("A=1 B 'C=two words'", {"A": "1", "B": None, "C": "two words"}),
        ({"A": "1", "B": None, "n": 2, "f": 0.5}, {"A": "1", "B": None, "n": "2", "f": "0.5"}),
        (("http_proxy=http://proxy:3128",), {"http_proxy": "http://proxy:3128"}),
        ([], {}),
    ],
)
def test_a_variable_is_given_with_its_value_or_without(raw: Any, values: dict[str, str | None]) -> None:
    assert parse_set_env(raw) == (values, [])


@pytest.mark.parametrize("raw", [["A", "B"], "A B", ("A", "B"), {"A": None, "B": None}])
def test_a_secret_is_given_by_its_name(raw: Any) -> None:
    assert parse_secret_env(raw) == (("A", "B"), [])


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        (["A=1", "A=2", "B"], ["has `A` twice"]),
        (["1A=x", "B-C", "=", "Ä=1"], [f"{NAMES}, not `1A`, `B-C`, `` and `Ä`"]),
        ("A='1", ["has a quotation that does not end"]),
        ({"A": True, "B": [1]}, ["needs a text for `A` and `B`"]),
        (3, ["must be a list of variables"]),
        ([1], ["must be a list of variables"]),
        (
            ["PATH=1", "HOME", "SKJOB_WORKERS=1", "DASK_X=1", "KUBERNETES_HOST=1", "MALLOC_X=1", "LD_PRELOAD=1"],
            [f"cannot set {FIRST_SIX} and `LD_PRELOAD`: {OWN}"],
        ),
        (
            ["OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "MKL_DYNAMIC=1", "NUMBA_NUM_THREADS=1"],
            [f"cannot set `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS`, `MKL_DYNAMIC` and `NUMBA_NUM_THREADS`: {THREADS}"],
        ),
        (
            ["PYTHONPATH=1", "2=1", "OMP_X=1", "B=1", "B=2"],
            [f"{NAMES}, not `2`", "has `B` twice", f"cannot set `PYTHONPATH`: {OWN}", f"cannot set `OMP_X`: {THREADS}"],
        ),
    ],
)
def test_all_that_is_wrong_is_found_at_once(raw: Any, problems: list[str]) -> None:
    assert parse_set_env(raw)[1] == problems


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        (["A", "A"], ["has `A` twice"]),
        (["SKJOB_X", "OMP_NUM_THREADS"], [f"cannot set `SKJOB_X`: {OWN}", f"cannot set `OMP_NUM_THREADS`: {THREADS}"]),
        (
            ["TOKEN=very-secret"],
            ["takes a name alone, and the value from your environment: leave out what follows `TOKEN`"],
        ),
        (["very-secret"], [f"{NAMES}, not `****`"]),
    ],
)
def test_what_is_wrong_with_a_secret_shows_no_value(raw: list[str], problems: list[str]) -> None:
    found = parse_secret_env(raw)[1]
    assert found == problems
    assert "very-secret" not in str(found)


def test_what_workers_have_is_reserved() -> None:
    """All that skjob sets there, and all that never travels with a task."""
    names = {variable["name"] for variable in pod_environment("", 1)} | set(ENVIRONMENT) | set(travelling.OWN_NAMES)
    names |= {f"{beginning}X" for beginning in travelling.OWN_BEGINNINGS}
    names |= {f"X{end}" for end in travelling.OWN_ENDS} | {GPUS_VARIABLE}
    assert {name for name in names if can_be_set(name)} == set()
    assert all(map(can_be_set, ("TZ", "LANG", "AWS_PROFILE", "HTTPS_PROXY", "https_proxy", "MYPROJECT_PATH")))


def test_a_value_that_is_left_out_is_the_users() -> None:
    found = resolve_variables({"A": "1", "B": None}, ("TOKEN",), {"A": "2", "B": "3", "TOKEN": "sesame"}, CALLED)
    assert found == Variables({"A": "1", "B": "3"}, {"TOKEN": "sesame"})
    assert "sesame" not in repr(found)


def test_what_cannot_be_passed_on_is_told_at_once_and_without_values() -> None:
    environ = {"BYTES": "\udcff", "SHORT": "abc", "LONG": "x" * (MAX_SECRET_BYTES + 1)}
    with pytest.raises(ConfigError) as caught:
        resolve_variables(
            {"MISSING": None, "BYTES": None, "LARGE": "x" * MAX_ORDINARY_BYTES},
            ("GONE", "ghp_0123456789abcdef", "SHORT", "LONG"),
            environ,
            CALLED,
        )
    assert caught.value.problems == [
        "`--set-env` finds no `MISSING` in your environment",
        "`--secret-env` finds no `GONE` and `****` in your environment",
        "`--set-env` cannot pass on `BYTES`: the value is no text in UTF-8",
        "`--secret-env` cannot hide `SHORT`: the value has fewer than 4 characters",
        "`--secret-env` cannot pass on `LONG`: the value has more than 65536 bytes",
        "`--set-env` has 8203 bytes of names and values, and may have 8192",
    ]
    assert "ghp_" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_runs_own_come_before_those_of_its_cluster() -> None:
    own, clusters = Variables({"A": "1"}, {"B": "2"}), Variables({"B": "3", "C": "4"}, {"A": "5", "D": "6"})
    assert own.over(clusters) == Variables({"A": "1", "C": "4"}, {"B": "2", "D": "6"})
    assert own.over(NO_VARIABLES) == own
