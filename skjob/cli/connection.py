"""From the options that `ps`, `down`, `install` and `doctor` share to the settings and the API they mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from skjob.cluster.api import Api
    from skjob.config import Layer

ContextOption = Annotated[
    str | None, typer.Option("--context", help="The kubeconfig's context. [default: the current one]")
]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="The namespace. [default: the context's]")]


def layers(**given: str | None) -> list[Layer]:
    """What was said by option, by variable and by project file, the strongest first."""
    from skjob import config

    return [config.flags(given), config.environment(os.environ), config.project(Path.cwd())]


def connect(context: str | None, namespace: str | None) -> Api:
    """The API of the context that is meant, in the namespace that is meant."""
    from skjob import config
    from skjob.cluster import api

    settings = config.resolve(layers(context=context, namespace=namespace))
    return api.connect(settings.context, settings.namespace)
