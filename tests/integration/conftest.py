"""What the clusters of these tests need, which end workers and use the same cluster again; and runs on one of them."""

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
def workers_come_back() -> Iterator[None]:
    """A test that ends a worker within 15 s after another one did would close its nanny for good: cluster/local.py."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "30 days"}):
        yield


@pytest.fixture
def every_call_goes_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of a moment too, which the program's process would do itself."""
    monkeypatch.setattr("skjob.engine.fidelity.small_calls.SENDING_SECONDS", -math.inf)


@pytest.fixture(scope="session")
def warm_clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmClusters]:
    """The cluster that runs in this process share."""
    clusters = WarmClusters(partial(tmp_path_factory.mktemp, "warm"))
    request.config.stash[WARM_CLUSTERS] = clusters
    yield clusters
    clusters.close()


@pytest.fixture
def local_runs(tmp_path: Path, warm_clusters: WarmClusters) -> LocalRuns:
    """Runs programs in this test's folder, by skjob in this process and by plain Python: see local_runs.py."""
    return LocalRuns(tmp_path, warm_clusters)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """The last of these tests ends the cluster: tests of other folders may follow, for long."""
    if (clusters := item.config.stash.get(WARM_CLUSTERS, None)) and not _is_beside(item, nextitem):
        clusters.close()


def _is_beside(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    return nextitem is not None and nextitem.path.parent == item.path.parent
