"""`skjob install`: install the Dask operator, and set a namespace's defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skjob.cli.options import ContextOption
from skjob.deploy.kubernetes.operator.manifests import Defaults, install_manifests

if TYPE_CHECKING:
    from skjob.deploy.kubernetes.operator.manifests import Defaults


def install(
    ctx: typer.Context,
    context: ContextOption = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="The namespace to set defaults in. [default: the context's]")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="The image of the operator, and of runs in the namespace.")
    ] = None,
    worker_cpu: Annotated[str | None, typer.Option(metavar="CORES", help="Default for runs in the namespace.")] = None,
    worker_memory: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Default for runs in the namespace.")
    ] = None,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long to wait for the operator to run.")] = "3m",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be applied, as YAML; needs no cluster.")
    ] = False,
) -> None:
    """Install the Dask operator, once per cluster. This requires the permissions of a platform team.

    Safe to repeat. Giving any default resets those that are not given; giving none keeps them all.
    An operator with an image of your own needs its `--image` each time; one that somebody else installed is left alone.
    """
    from skjob.cli.options import connect_with_options, layers, namespace_of, resolved
    from skjob.deploy.kubernetes.operator import install as installation

    given = {"image": image, "worker_cpu": worker_cpu, "worker_memory": worker_memory}
    requested, seconds = resolved("install", layers("install", ctx.params), timeout)

    def defaults(where: str) -> Defaults:
        return Defaults(where, **given)

    if dry_run:
        _print_yaml(install_manifests(image, defaults(namespace_of(requested.settings))))
        return
    api = connect_with_options("install", context, namespace)
    done = installation.install_operator(
        api, image, defaults(api.context.namespace), timeout=seconds, notify=lambda text: typer.echo(text, err=True)
    )
    state = done.operator
    typer.echo(f"skjob: the Dask operator {state.version} runs in `{state.namespace}` from `{state.image}`", err=True)


def _print_yaml(manifests: list[dict[str, Any]]) -> None:
    import yaml

    # Without aliases, which are hard to read; in C, because the custom resources are a megabyte.
    dumper = type("Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {"ignore_aliases": lambda *_: True})
    typer.echo(yaml.dump_all(manifests, Dumper=dumper, sort_keys=False, explicit_start=True), nl=False)
