"""Inside the pytest that runs one suite of joblib or scikit-learn: everything goes through skjob's backend.

joblib's tests of its Dask backend name it: `backend="dask"` is skjob's here, in this process and on the workers that
the tests start (which import this file, see `dask_setup`). Around each test of scikit-learn the backend is active, on
one cluster for all. What may differ is in `differences.toml`; a test is not touched otherwise.
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from distributed import Client, LocalCluster

DIFFERENCES = Path(__file__).with_name("differences.toml")
KINDS = ("memory", "design", "chance", "absent", "slow")
OUTCOMES = ("passed", "failed", "error", "xfailed", "xpassed", "skipped", "deselected")

listed: list[dict[str, Any]] = []
submitted: list[str] = []
"""For each batch that went through the backend, the test that it came from."""


def dask_setup(_: Any) -> None:
    """As `backend="dask"` in the test's process, so on its workers: Dask calls this when one starts."""
    import skjob.engine  # noqa: F401 - registers it; and is not to be there before joblib's tests look at all backends

    joblib.register_parallel_backend("dask", joblib.parallel.BACKENDS["skjob"])


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--upstream-report", type=Path, required=True, help="the JSON file to write")
    parser.addoption("--with-slow", action="store_true", help="run what is listed as `slow` too")
    parser.addoption("--with-loky", action="store_true", help="run what is listed as `memory`, with loky")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    module = items[0].getparent(pytest.Module)
    assert module is not None
    kinds = {}
    for test, difference in tomllib.loads(DIFFERENCES.read_text())[module.obj.__name__].items():
        matching = [item for item in items if test in (item.name, getattr(item, "originalname", None))]
        if not matching:
            raise pytest.UsageError(f"{DIFFERENCES.name}: there is no `{test}` in `{module.obj.__name__}`")
        if difference["kind"] == "slow" and config.option.with_slow:
            continue
        listed.append({"test": test, "tests": len(matching), **difference})
        for item in matching:
            kinds[item] = difference["kind"]
            reason = f"{difference['kind']}: {difference['cause']}"
            item.add_marker(pytest.mark.xfail(reason=reason, strict=difference["kind"] != "chance"))
    with_loky = config.option.with_loky
    left_out = [
        item for item in items if (kinds.get(item) != "memory" if with_loky else kinds.get(item) in ("absent", "slow"))
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    if not with_loky:
        _put_skjob_in_place(module.obj)


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

        backend = SkjobBackend(request.getfixturevalue("upstream_client"), wait_for_workers=30)
        with joblib.parallel_config(backend=backend, n_jobs=-1):
            yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report: dict[str, Any] = {outcome: len(terminalreporter.stats.get(outcome, ())) for outcome in OUTCOMES}
    report["collected"] = sum(report.values())
    kinds = Counter[str]()
    for difference in listed:
        kinds[difference["kind"]] += difference["tests"]
    report |= {kind: kinds[kind] for kind in KINDS}
    report |= {"listed": listed, "batches": len(submitted), "tests_with_batches": len(set(submitted))}
    config.option.upstream_report.write_text(json.dumps(report))
