"""Which of a program's clusters are the run's, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import joblib
import pytest
from dask import config
from distributed import Client, LocalCluster, Nanny, Security, Worker
from joblib._dask import DaskDistributedBackend

from skjob.run.program import dask_programs
from skjob.run.program.dask_programs import (
    SECURITY_LOADER,
    DaskBackend,
    RunCluster,
    dask_backend,
    is_of_run,
    leave_run_cluster,
    security_for,
    use_run_cluster,
)

ADDRESS = "tls://127.0.0.1:8786"


class Own(LocalCluster):  # type: ignore[misc]
    """A program's own kind of cluster."""


def a_client(address: str) -> Any:
    """As much of one as its address tells."""
    return SimpleNamespace(scheduler=SimpleNamespace(address=address))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the user has read, in a process that has a run's cluster."""
    initialize, shutdown, lines = Client.__init__, Client._shutdown, list[str]()
    monkeypatch.setattr(dask_programs, "_notified", set())
    with config.set({"scheduler-address": "tcp://theirs:8786", SECURITY_LOADER: f"{__name__}.loaded"}):
        use_run_cluster(RunCluster(ADDRESS, Security(), 2, 30.0, lines.append))
        yield lines
        leave_run_cluster()
    Client.__init__, Client._shutdown = initialize, shutdown
    LocalCluster.__new__ = lambda cls, *_, **__: object.__new__(cls)


def loaded(info: dict[str, str]) -> str:
    """The user's own certificates."""
    return f"those for {info['address']}"


def new(*arguments: Any, **options: Any) -> str:
    """What such a call would give, before it starts anything."""
    return type(LocalCluster.__new__(LocalCluster, *arguments, **options)).__name__


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, "LocalCluster()"),
        ({"n_workers": 2, "memory_limit": "2GB"}, "LocalCluster(n_workers=2, memory_limit='2GB')"),
        ({"worker_class": Nanny}, "LocalCluster(worker_class=…)"),
        ({"loop": 1, "asynchronous": False, "n_workers": 2, "env": {"KEY": "secret"}}, "Client(n_workers=2, env=…)"),
        ({"processes": True, "silence_logs": None}, "LocalCluster(processes=True, silence_logs=None)"),
    ],
)
def test_a_cluster_of_processes_is_that_of_the_run(said: list[str], options: dict[str, Any], written: str) -> None:
    assert new(**options) == "_StandIn"
    assert new("a second one") == "_StandIn"
    assert said == [
        f"`{written}` is the cluster of this run; `--workers`, `--worker-cpu` and `--worker-memory` say how large it is"
    ]


def test_a_client_without_options_needs_no_words(said: list[str]) -> None:
    assert new(loop=1, asynchronous=False) == "_StandIn"
    assert said == []


@pytest.mark.parametrize(
    "options", [{"processes": False}, {"worker_class": Worker}, {"protocol": "inproc://"}, {"worker_class": "a.Name"}]
)
def test_a_cluster_in_this_process_is_the_programs_own(said: list[str], options: dict[str, Any]) -> None:
    assert new(**options) == "LocalCluster"
    assert [line.partition("` ")[2] for line in said] == [
        "shares the memory of this process: its own tasks run here; joblib's backend `dask` has the workers of this run"
    ]


def test_other_kinds_of_clusters_are_left_alone(said: list[str]) -> None:
    assert type(Own.__new__(Own, n_workers=2)) is Own
    leave_run_cluster()
    assert new(n_workers=2) == "LocalCluster"
    assert said == []


def test_certificates_are_for_the_runs_address_alone(said: list[str]) -> None:
    loader = config.get(SECURITY_LOADER)
    assert config.get("scheduler-address") is None
    assert isinstance(security_for({"address": ADDRESS}), Security)
    assert security_for({"address": "tls://other:8786"}) == "those for tls://other:8786"
    leave_run_cluster()
    assert config.get(SECURITY_LOADER) != loader
    assert config.get("scheduler-address") == "tcp://theirs:8786"
    assert security_for({"address": ADDRESS}) == f"those for {ADDRESS}"
    assert said == []


def test_joblibs_dask_is_the_engine_on_the_runs_cluster(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[Any] = []
    monkeypatch.setattr(dask_programs, "DaskDistributedBackend", lambda *given, **_: given)
    monkeypatch.setattr(dask_programs, "_current", lambda: iter(current))
    ours, other = a_client(ADDRESS), a_client("tcp://other:8786")
    make = dask_backend({"client": ours, "width": 2})
    assert is_of_run(ours)
    assert not is_of_run(other)
    for backend in (
        make(),
        make(scatter=[1, 2]),
        make(client=ours),
        make(scheduler_host=ADDRESS),
        make(nesting_level=1),
    ):
        assert type(backend) is DaskBackend
        assert backend.client is ours
    current.append(a_client("inproc://127.0.0.1/1/1"))
    assert type(make()) is DaskBackend
    for given in (make(client=other), make(scheduler_host="tcp://other:8786"), make(client=current[0])):
        assert isinstance(given, tuple)
    current[0] = other
    assert make() == (None, None, None, None, 10)
    assert said == []
    assert type(make(client=ours, resources={"GPU": 1}, priority=1)) is DaskBackend
    assert said == ["joblib's backend `dask` ignores `priority`, `resources` in this run"]


def test_what_joblib_refuses_is_refused(said: list[str]) -> None:
    with pytest.raises(TypeError, match=r"scatter must be a list/tuple, got `dict`"):
        dask_backend({"client": a_client(ADDRESS)})(scatter={})
    assert said == []


def test_all_workers_are_joblibs_default_for_dask() -> None:
    assert DaskBackend.default_n_jobs == DaskDistributedBackend.default_n_jobs == -1
    assert joblib.parallel.DEFAULT_BACKEND == "loky"
