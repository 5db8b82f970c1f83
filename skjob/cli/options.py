"""Declare the options that commands share, once, and resolve them to settings and an API."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skjob.cli.completion import (
    complete_cluster,
    complete_context,
    complete_env,
    complete_namespace,
    complete_place,
)
from skjob.config.parsers import parse_seconds

if TYPE_CHECKING:
    from skjob.config.settings import Settings
    from skjob.config.sources import Layer, ResolvedSettings
    from skjob.deploy.kubernetes.api.client import Api

Text = str | None


def _option(group: str, *names: str, help: str, **more: Any) -> Any:  # noqa: A002 - as typer calls it
    return typer.Option(*names, help=help, rich_help_panel=group, **more)


# ---- where

OnOption = Annotated[
    Text,
    _option(
        "Where",
        "--on",
        metavar="PLACE",
        help="kubernetes, local, or auto: Kubernetes if it is ready, else this machine. [default: auto]",
        autocompletion=complete_place,
    ),
]
ContextOption = Annotated[
    Text,
    _option(
        "Where",
        "--context",
        metavar="NAME",
        help="The kubeconfig's context. [default: the current one]",
        autocompletion=complete_context,
    ),
]
NamespaceOption = Annotated[
    Text,
    _option(
        "Where",
        "--namespace",
        metavar="NAME",
        help="The namespace. [default: the context's]",
        autocompletion=complete_namespace,
    ),
]
ClusterOption = Annotated[
    Text,
    _option(
        "Where",
        "--cluster",
        metavar="NAME",
        help="Run on a cluster that `skjob up` or `--keep` has left, and leave it again. [default: a new one]",
        autocompletion=complete_cluster,
    ),
]
KeepOption = Annotated[
    bool, _option("Where", "--keep", help="Leave the cluster when the run ends; print how to use and remove it.")
]

# ---- workers

WorkersOption = Annotated[
    Text,
    _option(
        "Workers",
        "--workers",
        metavar="N|MIN:MAX",
        help="How many workers: a number, or a range to scale in. [default: 1:4; on this machine one for each core]",
    ),
]
WorkerCpuOption = Annotated[
    Text,
    _option("Workers", "--worker-cpu", metavar="CORES", help="Cores that a worker requests: 500m, 2. [default: 500m]"),
]
WorkerMemoryOption = Annotated[
    Text,
    _option("Workers", "--worker-memory", metavar="BYTES", help="A worker's memory limit: 800M, 2Gi. [default: 2Gi]"),
]
WorkerGpuOption = Annotated[
    Text,
    _option(
        "Workers",
        "--worker-gpu",
        metavar="N",
        help="GPUs (nvidia.com/gpu) of each worker, which then runs one fit at a time. [default: 0]",
    ),
]
NodePoolOption = Annotated[
    Text,
    _option(
        "Workers",
        "--node-pool",
        metavar="NAME",
        help="The platform team's node pool to run in. [default: the first of them]",
    ),
]
RetriesOption = Annotated[
    Text,
    _option("Workers", "--retries", metavar="N", help="How often to retry a fit whose worker died. [default: 1]"),
]

# ---- environment

ImageOption = Annotated[
    Text,
    _option(
        "Environment",
        "--image",
        metavar="IMAGE",
        help="The image of scheduler and workers. [default: Python's own]",
    ),
]
ArchOption = Annotated[
    Text,
    _option(
        "Environment",
        "--arch",
        metavar="NAME",
        help="The architecture of nodes that the image is for: amd64, arm64."
        " [default: that of all nodes; amd64 if they differ]",
    ),
]
EnvOption = Annotated[
    Text,
    _option(
        "Environment",
        "--env",
        metavar="auto|none|FILE",
        help="What pods must have: this environment, only what the image has, or a file of requirements."
        " [default: auto]",
        autocompletion=complete_env,
    ),
]
SetEnvOption = Annotated[
    list[str] | None,
    _option(
        "Environment",
        "--set-env",
        metavar="NAME[=VALUE]",
        help="Set a variable for the program and its workers; without a value, to what it is here. May be repeated.",
        show_default=False,
    ),
]
SecretEnvOption = Annotated[
    list[str] | None,
    _option(
        "Environment",
        "--secret-env",
        metavar="NAME",
        help="Set a variable to what it is here, and show its value nowhere. May be repeated.",
        show_default=False,
    ),
]

# ---- limits

StartTimeoutOption = Annotated[
    Text,
    _option(
        "Limits", "--start-timeout", metavar="TIME", help="How long to wait for the first worker: 90s. [default: 5m]"
    ),
]
MaxTimeOption = Annotated[
    Text,
    _option("Limits", "--max-time", metavar="TIME", help="How long the whole run may take: 2h. [default: no limit]"),
]
MaxCostOption = Annotated[
    Text,
    _option(
        "Limits",
        "--max-cost",
        metavar="AMOUNT",
        help="What the run may cost, if the platform team has set prices: 5. [default: no limit]",
    ),
]
GraceOption = Annotated[
    Text,
    _option(
        "Limits", "--grace", metavar="TIME", help="How long the cluster outlives a skjob that was killed. [default: 5m]"
    ),
]
KeepTimeOption = Annotated[
    Text,
    _option("Limits", "--keep-time", metavar="TIME", help="How long a cluster that is kept lives. [default: 4h]"),
]
IdleTimeoutOption = Annotated[
    Text,
    _option(
        "Limits", "--idle-timeout", metavar="TIME", help="How long the cluster lives after its last use. [default: 4h]"
    ),
]

# ---- output

CheckpointOption = Annotated[
    Text,
    _option(
        "Output",
        "--checkpoint",
        metavar="ADDRESS",
        help="Where finished fits are kept: a folder, an fsspec address, or none. [default: .skjob/fits]",
    ),
]
ResumeOption = Annotated[
    bool,
    _option("Output", "--resume", help="Resume an earlier run: also reuse its fits that have no random_state."),
]
MlflowOption = Annotated[
    bool,
    _option("Output", "--mlflow", help="Log the run to MLflow, even if the program has no MLflow run of its own."),
]
JsonOption = Annotated[
    bool,
    _option("Output", "--json", help="Report on stderr as JSON lines; the run's record is one of them."),
]
VerboseOption = Annotated[
    bool, _option("Output", "--verbose", "-v", help="Show each step, and the cluster's logs if the run fails.")
]
QuietOption = Annotated[bool, _option("Output", "--quiet", "-q", help="Show only errors, and how the run ended.")]


def layers(command: str, given: Mapping[str, Any]) -> list[Layer]:
    """Return what options of a command, variables and project files say, the strongest first.

    `given` are the command's parameters; those that are no settings are left out.
    """
    from skjob.config import sources

    options = {name: value for name, value in given.items() if sources.is_setting(name)}
    return [sources.flags(options, command), sources.environment(os.environ), sources.project(Path.cwd())]


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
    """Return the namespace that is set, else the context's, else `default` without a kubeconfig. Make no request.

    Raises:
        AccessError: there is no context of the name that was given.
        Unauthorized: the context's login is expired. What is printed for the wrong namespace would be applied there.
    """
    from skjob.deploy.kubernetes.api import client as api
    from skjob.errors import AccessError, Unauthorized

    if settings.namespace is not None:
        return settings.namespace
    try:
        return api.connect_api(settings.context).context.namespace
    except AccessError as error:
        if settings.context is not None or isinstance(error, Unauthorized):
            raise
        return "default"


def connect_with_options(command: str, context: str | None, namespace: str | None) -> Api:
    """Connect to the API of these options, or of the configured context and namespace. Raise AccessError."""
    from skjob.config import sources
    from skjob.deploy.kubernetes.api import client as api

    settings = sources.resolve(layers(command, {"context": context, "namespace": namespace})).settings
    return api.connect_api(settings.context, settings.namespace)


@contextmanager
def hint_if_forbidden(all_namespaces: bool) -> Iterator[None]:
    """Add a hint for a user who is not allowed to list all namespaces, but may be allowed one."""
    from skjob.errors import ForbiddenError

    try:
        yield
    except ForbiddenError as error:
        if not all_namespaces:
            raise
        hint = "leave out `--all-namespaces`; `--namespace` looks into another one"
        raise ForbiddenError(error.message, hint) from error
