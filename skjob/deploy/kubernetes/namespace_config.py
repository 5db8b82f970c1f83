"""What a platform team says about runs in a namespace: the ConfigMap `skjob-defaults`, as defaults and as rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from skjob.config.namespace_policy import NamespacePolicy, parse_rules
from skjob.config.settings import Settings
from skjob.config.sources import Layer, cluster_defaults, resolve
from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import NotFound
from skjob.deploy.kubernetes.manifests.labels import DEFAULTS_CONFIGMAP
from skjob.errors import ConfigError, ForbiddenError


def read_defaults(api: Api, layers: Sequence[Layer]) -> tuple[Settings, NamespacePolicy]:
    """Return the settings of these layers over the namespace's defaults, and the namespace's rules.

    Raises:
        ConfigError: with every wrong value of every layer and of the ConfigMap.
    """
    namespace = api.context.namespace
    data = _data(api, namespace)
    origin = _origin(namespace)
    problems: list[str] = []
    hints: list[str] = []
    settings, rules = Settings(), NamespacePolicy()
    try:
        settings = resolve([*layers, cluster_defaults(data, origin)])
    except ConfigError as error:
        problems += error.problems
        hints.append(error.hint)
    try:
        rules = parse_rules(data, origin)
    except ConfigError as error:
        problems += error.problems
        hints.append(error.hint)
    if problems:
        raise ConfigError.collect(problems, "; ".join(hints))
    return settings, _of_namespace(rules, namespace)


def _data(api: Api, namespace: str) -> dict[str, str]:
    """Return the ConfigMap's data; empty if there is none, or the user may not read it."""
    with suppress(NotFound, ForbiddenError):
        return api.get("ConfigMap", DEFAULTS_CONFIGMAP, namespace).get("data") or {}
    return {}


def _origin(namespace: str) -> str:
    return f"ConfigMap {namespace}/{DEFAULTS_CONFIGMAP}"


def _of_namespace(rules: NamespacePolicy, namespace: str) -> NamespacePolicy:
    """Name the namespace as the team if none is named."""
    return replace(rules, team=rules.team or namespace)
