"""Find the API to use, from a context of the kubeconfig or from this pod. No request is made."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.errors import AccessError, Unauthorized, first_line

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

INSIDE_PAGE = "skjob's page `Run from a pod`"
"""The page that explains how a pod gets what a run needs (docs/howto/inside-the-cluster.md)."""


@dataclass(frozen=True)
class FoundContext:
    """The client library's configuration, and the context's name and namespace."""

    configuration: Any
    context: str
    namespace: str
    in_cluster: bool = False


_NO_CONTEXT_HINT = "it has no contexts: ask whoever runs your cluster how to get one; `--on local` runs on this machine"


def find_context(context: str | None) -> FoundContext:
    """Return the named context, else the current one, else that of the pod that this process runs in.

    Raises:
        AccessError: there is no kubeconfig, or no such context in it, or it cannot be used; or this is a pod that has
            neither a kubeconfig nor a token.
    """
    if context is None and not _has_kubeconfig():
        if _SERVICE_ACCOUNT.joinpath("token").exists():
            return _of_this_pod()
        if _is_pod():
            raise AccessError(
                "this pod has no token of a service account, and no kubeconfig: ask for one as"
                f" {INSIDE_PAGE} describes",
                "the pod's spec needs `serviceAccountName`, an account with the Role that `skjob doctor --role` prints,"
                " and must not have `automountServiceAccountToken: false`; in JupyterHub's chart,"
                " `singleuser.serviceAccountName` does both; `skjob run --on local` runs in this pod",
            )
    contexts, current = _read()
    chosen = next((each for each in contexts if each["name"] == (context or current)), None)
    if chosen is None:
        names = ", ".join(f"`{each['name']}`" for each in contexts)
        hint = f"it has {names}" if names else _NO_CONTEXT_HINT
        if context is not None:
            raise AccessError(f"the kubeconfig has no context `{context}`", hint)
        what = f"its current context, `{current}`, is not in it" if current else "it has no current context"
        hint = f"name a context, with `--context`: {hint}" if names else hint
        raise AccessError(f"there is no usable kubeconfig: {what}", hint)
    namespace = chosen["context"].get("namespace") or "default"
    return FoundContext(_load(chosen["name"]), chosen["name"], namespace)


def context_names() -> list[str]:
    """Return the names of the kubeconfig's contexts. Raise AccessError if it cannot be used."""
    contexts, _ = _read()
    return [str(each["name"]) for each in contexts]


def _has_kubeconfig() -> bool:
    """Return whether a kubeconfig exists or is named. As in kubectl and kr8s, it takes precedence in a pod too."""
    return bool(os.environ.get("KUBECONFIG")) or Path(_file()).exists()


def _is_pod() -> bool:
    """Return whether this process runs in a pod: Kubernetes gives each one the address of its API."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _of_this_pod() -> FoundContext:
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
        namespace = _SERVICE_ACCOUNT.joinpath("namespace").read_text().strip()
    except (ConfigException, OSError) as error:
        raise AccessError(
            f"the service account of this pod cannot be used: {first_line(error)}",
            f"there is no kubeconfig at `{_file()}` either; `skjob run --on local` runs on this machine",
        ) from error
    return FoundContext(configuration, "in-cluster", namespace, in_cluster=True)


def _file() -> str:
    """Return the kubeconfig's path as it is now, not when the client library was imported."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _read() -> tuple[list[dict[str, Any]], str | None]:
    """Return the contexts and the current one's name, which may be missing: the library's own list requires one."""
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KubeConfigMerger
    from yaml import YAMLError

    def unusable(why: str) -> AccessError:
        hint = "`kubectl config view` shows it; `skjob run --on local` runs on this machine"
        return AccessError(f"there is no usable kubeconfig: {why}", hint)

    try:
        merged = KubeConfigMerger(_file()).config
    except (YAMLError, TypeError, KeyError, AttributeError) as error:  # a file that is no kubeconfig
        raise unusable(f"`{_file()}` is not one") from error
    except (ConfigException, OSError, ValueError) as error:
        raise unusable(first_line(error)) from error
    if merged is None:
        raise unusable(f"`{_file()}` does not exist")
    return [node.value for node in merged.value["contexts"]], merged.value.get("current-context") or None


def _load(context: str) -> Any:
    """Return the configuration of a context, with its credentials."""
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    configuration = client.Configuration()
    first = f"`kubectl --context {context} get pods` should work first"
    with _credential_errors() as errors:
        try:
            config.load_kube_config(_file(), context=context, client_configuration=configuration)
        except (ConfigException, OSError, ValueError, KeyError) as error:
            raise AccessError(f"the context `{context}` cannot be used: {first_line(error)}", first) from error
    if errors:
        raise Unauthorized(
            f"the credentials of the context `{context}` cannot be obtained: {errors[0]}", f"log in again: {first}"
        )
    return configuration


@contextmanager
def _credential_errors() -> Iterator[list[str]]:
    """Collect what the client library (37.0) only logs if a login plugin is missing or fails.

    It continues without credentials, and from then on everything that is logged is shown. GONE WHEN it raises instead.
    """
    errors: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(first_line(record.getMessage()))

    handler = Handler(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield errors
    finally:
        logging.getLogger().removeHandler(handler)
