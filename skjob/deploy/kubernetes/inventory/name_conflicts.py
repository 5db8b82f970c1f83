"""Detect existing objects that use a name the cluster needs.

A cluster that a user names takes that name for several kinds of objects, and the operator derives more names from it.
Other people's objects are found before anything is created, as far as the user may look. One that was not visible, or
was created in between, is found when the API rejects the cluster's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.api.errors import Conflict, NotFound, Raced
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.deploy.kubernetes.manifests.labels import MANAGED_BY_LABEL, RUN_LABEL, USER_ANNOTATION, shown
from skjob.errors import ConfigError, ForbiddenError

_NEEDED = (
    ("Job", ""),
    ("DaskCluster", ""),
    ("Secret", ""),
    ("ConfigMap", ""),
    ("NetworkPolicy", ""),
    # Created by the operator (dask-kubernetes 2026.3.0). Names of workers have a random part.
    ("DaskWorkerGroup", "-default"),
    ("Deployment", "-scheduler"),
    ("Service", "-scheduler"),
)
"""Kinds of objects that a cluster needs, with the suffix of its name."""

_CHOOSE_ANOTHER = "choose another name"


def check_available(api: Api, name: str) -> None:
    """Raise ConfigError if an existing object has a name that a cluster of this name needs."""
    with ThreadPoolExecutor(len(_NEEDED), thread_name_prefix="skjob-names") as pool:
        lookups = [(kind, pool.submit(_find, api, kind, name + suffix)) for kind, suffix in _NEEDED]
    existing = [(kind, manifest) for kind, lookup in lookups if (manifest := lookup.result()) is not None]
    if existing:
        raise _conflict(api, existing)


def create(api: Api, manifest: Manifest, *, strict: bool = False) -> None:
    """Create an object of a cluster. Raise ConfigError if something else has its name."""
    try:
        api.create(manifest, strict=strict)
    except Raced:
        raise
    except Conflict as error:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        existing = _find(api, kind, name)
        if existing is not None:
            raise _conflict(api, [(kind, existing)]) from error
        raise ConfigError(
            f"there is a {kind} `{name}` in namespace `{api.context.namespace}`, which does not belong to this cluster",
            _CHOOSE_ANOTHER,
        ) from error


def _find(api: Api, kind: str, name: str) -> Manifest | None:
    """Return the object of this name; None if there is none, or the user may not read it."""
    namespace = api.context.namespace
    try:
        if kind == "NetworkPolicy":  # skjob's users may list but not get it
            return next(iter(api.list(kind, namespace, fields=f"metadata.name={name}")), None)
        return api.get(kind, name, namespace)
    except (NotFound, ForbiddenError):
        return None


def _conflict(api: Api, existing: Sequence[tuple[str, Manifest]]) -> ConfigError:
    foreign = [(kind, manifest) for kind, manifest in existing if not _is_ours(manifest)]
    objects = " and ".join(f"a {kind} `{manifest['metadata']['name']}`" for kind, manifest in foreign or existing)
    problem = f"there is {objects} in namespace `{api.context.namespace}`"
    if foreign:
        return ConfigError(f"{problem}, which {'is' if len(foreign) == 1 else 'are'} not skjob's", _CHOOSE_ANOTHER)
    of_runs = [manifest["metadata"] for _, manifest in existing if RUN_LABEL in manifest["metadata"]["labels"]]
    if not of_runs:
        return ConfigError(f"{problem}, which skjob needs for something else", _CHOOSE_ANOTHER)
    user = shown((of_runs[0].get("annotations") or {}).get(USER_ANNOTATION, "somebody"))
    return ConfigError(
        f"{problem}, left by an earlier cluster of {user} that is being removed",
        f"try again in a moment, or {_CHOOSE_ANOTHER}",
    )


def _is_ours(manifest: Manifest) -> bool:
    return (manifest["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == "skjob"
