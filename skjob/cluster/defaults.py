"""A platform team's defaults for runs: the ConfigMap `skjob-defaults` of a namespace, as a layer of settings."""

from __future__ import annotations

from contextlib import suppress

from skjob.cluster.api import Api, NotFound
from skjob.cluster.names import DEFAULTS_CONFIGMAP
from skjob.config import Layer, cluster_defaults
from skjob.errors import ForbiddenError


def read_defaults(api: Api) -> Layer:
    """The defaults of the context's namespace; none where there are none, or where they may not be read."""
    namespace = api.context.namespace
    data: dict[str, str] = {}
    with suppress(NotFound, ForbiddenError):
        data = api.get("ConfigMap", DEFAULTS_CONFIGMAP, namespace).get("data") or {}
    return cluster_defaults(data, f"ConfigMap {namespace}/{DEFAULTS_CONFIGMAP}")
