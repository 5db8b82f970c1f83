"""What a platform team says about runs in a namespace: the ConfigMap `skjob-defaults`, as defaults and as rules."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from skjob.config.namespace_policy import NamespacePolicy, parse_rules
from skjob.config.sources import Problems, ResolvedSettings, cluster_defaults
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP
from skjob.errors import ForbiddenError


def read_defaults(api: Api, asked: ResolvedSettings) -> tuple[ResolvedSettings, NamespacePolicy]:
    """Put the namespace's defaults below the settings that were asked for, and read the namespace's rules.

    Raises:
        ConfigError: with every wrong value of the ConfigMap.
    """
    namespace = api.context.namespace
    data = _data(api, namespace)
    origin = f"ConfigMap {namespace}/{DEFAULTS_CONFIGMAP}"
    problems = Problems()
    settings, rules = asked, NamespacePolicy()
    with problems:
        settings = asked.over(cluster_defaults(data, origin))
    with problems:
        rules = parse_rules(data, origin)
    problems.raise_any()
    # Without the name of a team, a namespace is a team's own.
    return settings, replace(rules, team=rules.team or namespace)


def _data(api: Api, namespace: str) -> dict[str, str]:
    """Return the data of the ConfigMap; empty if there is none, or if it may not be read."""
    with suppress(NotFound, ForbiddenError):
        return api.get("ConfigMap", DEFAULTS_CONFIGMAP, namespace).get("data") or {}
    return {}
