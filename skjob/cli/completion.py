"""Values that a shell completes: contexts from the kubeconfig, namespaces and clusters from the API, runs from records.

Whatever goes wrong, a shell that completes shows nothing: there is nobody to read an error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import typer

TIMEOUT = 3.0
"""Seconds that the API gets to answer: a person waits for it at the prompt."""


def complete_place(incomplete: str) -> list[str]:
    """Complete the value of `--on`."""
    from skjob.config.settings import Place

    return _starting(incomplete, Place)


def complete_env(incomplete: str) -> list[str]:
    """Complete the value of `--env`, unless it is a file."""
    return _starting(incomplete, ("auto", "none"))


def complete_context(incomplete: str) -> list[str]:
    """Complete the name of a context of the kubeconfig."""
    from skjob.deploy.kubernetes.api.kubeconfig import context_names

    return _found(incomplete, context_names)


def complete_namespace(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a namespace, if the user may list them."""

    def names() -> list[str]:
        return [each["metadata"]["name"] for each in _connect(ctx).list("Namespace")]

    return _found(incomplete, names)


def complete_cluster(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a cluster in the namespace that is meant."""

    def names() -> list[str]:
        from skjob.deploy.kubernetes.inventory import runs

        api = _connect(ctx)
        return [run.name for run in runs.runs(api, api.context.namespace)]

    return _found(incomplete, names)


def complete_run(incomplete: str) -> list[str]:
    """Complete the id of a run that was started in this folder."""
    from pathlib import Path

    from skjob.run.history.records import run_ids

    return _found(incomplete, lambda: run_ids(Path.cwd()))


def _connect(ctx: typer.Context) -> Any:
    """Return the API that the options before the incomplete word name."""
    from skjob.cli.options import connect_with_options

    return connect_with_options("", ctx.params.get("context"), ctx.params.get("namespace"))


def _found(incomplete: str, find: Callable[[], Iterable[str]]) -> list[str]:
    found: list[str] = []

    def look() -> None:
        with suppress(Exception):
            found.extend(find())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    return _starting(incomplete, found)


def _starting(incomplete: str, values: Iterable[str]) -> list[str]:
    return [str(value) for value in values if value.startswith(incomplete)]
