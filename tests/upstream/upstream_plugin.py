"""Inside the pytest that runs one suite of joblib or scikit-learn: everything goes through skjob's backend.

joblib's tests of its Dask backend name it: `backend="dask"` is skjob's here, in this process and on the workers that
the tests start (which import this file, see `dask_setup`). Around each test of scikit-learn the backend is active, on
one cluster for all. What may differ is in `differences.toml`; a test is not touched otherwise.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

DIFFERENCES = Path(__file__).with_name("differences.toml")
PART = Path(__file__).with_name("part.toml")
KINDS = ("memory", "design", "chance", "absent", "slow")
OUTCOMES = ("passed", "failed", "error", "xfailed", "xpassed", "skipped", "deselected")

kinds: dict[pytest.Item, str] = {}
"""What `differences.toml` says of tests that run or are absent, and `slow` of those left out for it."""
listed: list[tuple[dict[str, Any], list[pytest.Item]]] = []
submitted: list[str] = []
"""For each batch that went through the backend, the test that it came from."""

# Workers are forks of a process that has imported this file: each draws its own random numbers.
os.register_at_fork(after_in_child=np.random.seed)


def dask_setup(_: Any) -> None:
    """As `backend="dask"` in the test's process, so on its workers: Dask calls this when one starts."""
    import skjob.engine  # noqa: F401 - registers it; and is not to be there before joblib's tests look at all backends

    joblib.register_parallel_backend("dask", joblib.parallel.BACKENDS["skjob"])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--upstream-report", type=Path, required=True, help="the JSON file to write")
    parser.addoption("--with-loky", action="store_true", help="run what is listed as `memory`, with loky")


def pytest_configure(config: pytest.Config) -> None:
    """What workers need is imported once, in the process that they are forked from.

    Not joblib's tests: they import distributed's, which start a thread that no fork has.
    """
    config.addinivalue_line("markers", "slow: no part of `make test`")
    suites = [suite for suite in config.args if suite.startswith("sklearn.")]
    get_mp_context().set_forkserver_preload(["upstream_plugin", "skjob.engine", *suites])


@pytest.hookimpl(tryfirst=True)  # pytest leaves out what is slow after it
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    module = items[0].getparent(pytest.Module)
    assert module is not None
    suite = module.obj.__name__
    for test, difference in tomllib.loads(DIFFERENCES.read_text()).get(suite, {}).items():
        matching = _named(test, items, DIFFERENCES, suite)
        listed.append(({"test": test, **difference}, matching))
        for item in matching:
            kinds[item] = difference["kind"]
            reason = f"{difference['kind']}: {difference['cause']}"
            item.add_marker(pytest.mark.xfail(reason=reason, strict=difference["kind"] != "chance"))
    part = tomllib.loads(PART.read_text())[suite]["tests"]
    quick = [item for test in part for item in _named(test, items, PART, suite)]
    with_loky = config.option.with_loky
    left_out = {item for item in items if (kinds.get(item) != "memory" if with_loky else kinds.get(item) == "absent")}
    for item in set(items) - left_out - set(quick):
        item.add_marker(pytest.mark.slow)
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]
    if not with_loky:
        _put_skjob_in_place(module.obj)


def _named(test: str, items: list[pytest.Item], file: Path, suite: str) -> list[pytest.Item]:
    matching = [item for item in items if test in (item.name, getattr(item, "originalname", None))]
    if not matching:
        raise pytest.UsageError(f"{file.name}: there is no `{test}` in `{suite}`")
    return matching


def pytest_deselected(items: list[pytest.Item]) -> None:
    kinds.update({item: "slow" for item in items if item.get_closest_marker("slow")})


def _put_skjob_in_place(module: Any) -> None:
    from skjob.engine.backend import SkjobBackend

    submit = SkjobBackend.submit

    def counted(self: SkjobBackend, *arguments: Any, **keywords: Any) -> Any:
        submitted.append(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])
        return submit(self, *arguments, **keywords)

    SkjobBackend.submit = counted  # type: ignore[method-assign]
    if hasattr(module, "DaskDistributedBackend"):
        dask_setup(None)
        module.DaskDistributedBackend = SkjobBackend


@pytest.fixture(scope="session")
def upstream_client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def upstream_backend(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test of scikit-learn does in parallel, or may do, it does with this backend."""
    if not request.module.__name__.startswith("sklearn."):
        yield
    elif request.config.option.with_loky:
        with joblib.parallel_config(backend="loky", n_jobs=2):
            yield
    else:
        from skjob.engine.backend import SkjobBackend
        from skjob.engine.fidelity import small_calls

        small_calls.SENDING_SECONDS = -math.inf  # else most calls of these tests would be too small for workers
        client = request.getfixturevalue("upstream_client")
        # All these tests are of one line of the program, pytest's: what one call has shown counts for it alone.
        client.extensions.pop("skjob-places", None)
        backend = SkjobBackend(client, wait_for_workers=120)
        with joblib.parallel_config(backend=backend, n_jobs=-1):
            yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report: dict[str, Any] = {outcome: len(terminalreporter.stats.get(outcome, ())) for outcome in OUTCOMES}
    report["collected"] = sum(report.values())
    report |= {kind: Counter(kinds.values())[kind] for kind in KINDS}
    counts = [sum(kinds[item] == difference["kind"] for item in items) for difference, items in listed]
    report["listed"] = [
        {"tests": count, **difference} for count, (difference, _) in zip(counts, listed, strict=True) if count
    ]
    report |= {"batches": len(submitted), "tests_with_batches": len(set(submitted))}
    config.option.upstream_report.write_text(json.dumps(report))
