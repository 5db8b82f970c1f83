"""The Dask operator: whether a cluster has one, and putting it there."""

from __future__ import annotations

from skjob.cluster.api import DASK_GROUP, Api

CUSTOM_RESOURCES = f"{DASK_GROUP}/v1"


def has_operator(api: Api) -> bool:
    """Whether the API knows DaskClusters: one request, which every user may make.

    It tells that an operator was installed, not that it acts: that is `operator_state`, which needs more permissions.
    """
    return api.serves(CUSTOM_RESOURCES)
