"""From the options that commands share to the settings and the API they mean."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skjob.config.parsers import parse_seconds

if TYPE_CHECKING:
    from skjob.config.settings import Settings
    from skjob.config.sources import Layer, ResolvedSettings
    from skjob.deploy.kubernetes.api.client import Api

ContextOption = Annotated[
    str | None, typer.Option("--context", help="The kubeconfig's context. [default: the current one]")
]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="The namespace. [default: the context's]")]


def layers(command: str, **given: str | None) -> list[Layer]:
    """What was said by option of this command, by variable and by project file, the strongest first."""
    from skjob.config import sources

    return [sources.flags(given, command), sources.environment(os.environ), sources.project(Path.cwd())]


def resolved(command: str, layers: list[Layer], timeout: str) -> tuple[ResolvedSettings, float]:
    """Return the settings, and the seconds of a command's own `--timeout`. Raise ConfigError with all that is wrong."""
    from skjob.config import sources
    from skjob.errors import ConfigError

    problems = sources.Problems()
    with problems:
        try:
            seconds = parse_seconds(timeout)
        except ValueError as error:
            raise ConfigError(f"`--timeout` {error}, not `{timeout}`", sources.help_of(command)) from error
    with problems:
        settings = sources.resolve(layers)
    problems.raise_any()
    return settings, seconds


def namespace_of(settings: Settings) -> str:
    """The one that is set, else the context's, else `default` where there is no kubeconfig. No request is made.

    Raises AccessError where a context is named that is not there, and Unauthorized where its login is expired: what is
    printed for another namespace than is meant would be applied there.
    """
    from skjob.deploy.kubernetes.api import client as api
    from skjob.errors import AccessError, Unauthorized

    if settings.namespace is not None:
        return settings.namespace
    try:
        return api.connect(settings.context).context.namespace
    except AccessError as error:
        if settings.context is not None or isinstance(error, Unauthorized):
            raise
        return "default"


def connect(command: str, context: str | None, namespace: str | None) -> Api:
    """The API of the context that is meant, in the namespace that is meant."""
    from skjob.config import sources
    from skjob.deploy.kubernetes.api import client as api

    settings = sources.resolve(layers(command, context=context, namespace=namespace)).settings
    return api.connect(settings.context, settings.namespace)


@contextmanager
def looking(everywhere: bool) -> Iterator[None]:
    """Around what looks into all namespaces, or into one: who may not do the first may do the second."""
    from skjob.errors import ForbiddenError

    try:
        yield
    except ForbiddenError as error:
        if not everywhere:
            raise
        hint = "leave out `--all-namespaces`; `--namespace` looks into another one"
        raise ForbiddenError(error.message, hint) from error
