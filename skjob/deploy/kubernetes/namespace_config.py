"""Read a platform team's defaults and rules for runs in a namespace, from the ConfigMap `skjob-defaults`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from skjob.config.namespace_policy import NamespacePolicy, parse_rules
from skjob.config.sources import Problems, ResolvedSettings, cluster_defaults
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP
from skjob.errors import ForbiddenError


def read_defaults(api: Api, requested: ResolvedSettings) -> tuple[ResolvedSettings, NamespacePolicy]:
    """Return the requested settings completed by the namespace's defaults, and the namespace's rules.

    Raises:
        ConfigError: lists every invalid value of the ConfigMap.
    """
    namespace = api.context.namespace
    data = _data(api, namespace)
    origin = f"ConfigMap {namespace}/{DEFAULTS_CONFIGMAP}"
    problems = Problems()
    settings, rules = requested, NamespacePolicy()
    with problems:
        settings = requested.over(cluster_defaults(data, origin))
    with problems:
        rules = parse_rules(data, origin)
    problems.raise_any()
    # Unless a team is named, the namespace stands for one.
    return settings, replace(rules, team=rules.team or namespace)


def _data(api: Api, namespace: str) -> dict[str, str]:
    """Return the data of the ConfigMap; empty if it does not exist or may not be read."""
    with suppress(NotFound, ForbiddenError):
        return api.get("ConfigMap", DEFAULTS_CONFIGMAP, namespace).get("data") or {}
    return {}
