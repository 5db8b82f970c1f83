"""What the clusters of these tests need, which end workers and use the same cluster again."""

from __future__ import annotations

from collections.abc import Iterator

import dask
import pytest


@pytest.fixture(scope="session", autouse=True)
def workers_come_back() -> Iterator[None]:
    """A test that ends a worker within 15 s after another one did would close its nanny for good: cluster/local.py."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "30 days"}):
        yield
