"""Fixtures of tests that end workers of a cluster which later tests use again, and of runs on a warm cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dask
import pytest
from local_runs import LocalRuns, WarmClusters

WARM_CLUSTERS = pytest.StashKey[WarmClusters]()


@pytest.fixture(scope="session", autouse=True)
def restart_lost_workers() -> Iterator[None]:
    """Let nannies restart workers that were lost within 15 s of each other, as on skjob's own clusters."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "30 days"}):
        yield


@pytest.fixture
def send_small_calls_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send even very short calls to workers, which otherwise run in the program's process."""
    monkeypatch.setattr("skjob.engine.fidelity.small_calls.SENDING_SECONDS", -math.inf)


@pytest.fixture(scope="session")
def warm_clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmClusters]:
    """The cluster that runs in this test process share."""
    clusters = WarmClusters(partial(tmp_path_factory.mktemp, "warm"))
    request.config.stash[WARM_CLUSTERS] = clusters
    yield clusters
    clusters.close()


@pytest.fixture
def local_runs(tmp_path: Path, warm_clusters: WarmClusters) -> LocalRuns:
    """Runs programs in this test's folder, with skjob in this process or with plain Python: see local_runs.py."""
    return LocalRuns(tmp_path, warm_clusters)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close the warm cluster after the last test of this folder: tests of other folders may run long after it."""
    if (clusters := item.config.stash.get(WARM_CLUSTERS, None)) and not _is_in_same_folder(item, nextitem):
        clusters.close()


def _is_in_same_folder(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    return nextitem is not None and nextitem.path.parent == item.path.parent
