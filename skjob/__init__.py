"""Run a scikit-learn program, unchanged, on your own Kubernetes cluster.

    import skjob

    with skjob.cluster(workers=4):
        search.fit(X, y)

The command line, `skjob run --workers 4 train.py`, needs no change in the program at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["cluster"]


@contextmanager
def cluster(
    workers: int | str | tuple[int, int] | None = None,
    *,
    on: str | None = None,
    name: str | None = None,
    context: str | None = None,
    namespace: str | None = None,
    image: str | None = None,
    arch: str | None = None,
    env: str | None = None,
    set_env: Mapping[str, str | None] | Sequence[str] | None = None,
    secret_env: Sequence[str] | None = None,
    worker_cpu: float | str | None = None,
    worker_memory: int | str | None = None,
    worker_gpu: int | None = None,
    node_pool: str | None = None,
    start_timeout: float | str | None = None,
    max_cost: float | str | None = None,
    grace: float | str | None = None,
    checkpoint: str | None = None,
    retries: int | None = None,
) -> Iterator[Client]:
    """Run every joblib-parallel part of scikit-learn inside the `with` block on a cluster, which ends with the block.

    In a program of `skjob run` it is that run's cluster: no other is started, and the arguments have no effect.

    Options not given here are read from environment variables and project files, as in `skjob run`. `max_time` is not
    supported.

    Parameters
    ----------
    workers : int, "MIN:MAX" or (MIN, MAX), default=None
        Number of workers, or a range to scale in. None: one for each core on this machine, 1 to 4 on Kubernetes.
    on : {"auto", "kubernetes", "local"}, default="auto"
        Where to run. "auto" is Kubernetes if a context has the Dask operator, else this machine.
    name : str, default=None
        A cluster that `skjob up` or `skjob run --keep` has left. It is used, and left again.
    context, namespace : str, default=None
        The kubeconfig's context, and the namespace; None takes the current ones.
    image : str, default=None
        The image of scheduler and workers; None takes Python's own.
    arch : str, default=None
        The architecture of nodes that the image is for, "amd64" or "arm64". None: that of all nodes, or "amd64" if they
        differ.
    env : {"auto", "none"} or path, default="auto"
        What pods must have: the distributions that are installed here, only what the image has, or those of a file of
        requirements.
    set_env : mapping, or sequence of "NAME=VALUE" and "NAME", default=None
        Environment variables to set, within the block in this process, and in all workers. One without a value, or with
        None, has the value that it has here.
    secret_env : sequence of str, default=None
        Names of variables that workers get from here, and whose values are shown nowhere.
    worker_cpu : float or str, default=0.5
        Cores that each worker requests; "500m" is 0.5.
    worker_memory : int (bytes) or str, default="2Gi"
        A worker's memory limit.
    worker_gpu : int, default=0
        GPUs of each worker, which then runs one fit at a time.
    node_pool : str, default=None
        The platform team's node pool to run in; None takes the first of them.
    start_timeout : float (seconds) or str, default="5m"
        How long to wait for the first worker.
    max_cost : float, default=None
        What the cluster may cost, if the platform team has set prices: it ends before it costs more.
    grace : float (seconds) or str, default="5m"
        How long the cluster survives this process if it is killed.
    checkpoint : str, default=None
        Where finished fits are kept and found again: a folder, or any address that fsspec knows. None keeps none.
    retries : int, default=1
        How often to retry a fit whose worker died.

    Yields
    ------
    distributed.Client
        The cluster's client, which is also `dask.distributed.Client.current()`.

    Raises
    ------
    skjob.errors.SkjobError
        There is no cluster to use; the message says why, and what to do.
    """
    given = dict(locals())  # the arguments, and nothing else yet
    import os

    from skjob.config import sources
    from skjob.config.environment_variables import SETTINGS as VARIABLES
    from skjob.config.plan import JobSpec
    from skjob.run.context import open_cluster
    from skjob.run.run import RunOptions
    from skjob.utils import dask_client
    from skjob.utils.operating_system import check_supported

    check_supported()
    if dask_client.run_client is not None:
        _write("`skjob.cluster()` uses the cluster of this run, with the run's own options")
        yield dask_client.run_client
        return
    options = RunOptions(cluster=given.pop("name"))
    if isinstance(workers, tuple):
        given["workers"] = f"{workers[0]}:{workers[1]}"
    flags = sources.arguments(
        {key: value if key in VARIABLES else str(value) for key, value in given.items() if value is not None}
    )
    asked = sources.resolve([flags, sources.environment(os.environ), sources.project(Path.cwd())])
    with open_cluster(JobSpec(_program()), asked, options, _write) as client:
        yield client


def _write(line: str) -> None:
    print(f"skjob: {line}", file=sys.stderr)


def _program() -> Path:
    """Return the script that runs; in a notebook or an interactive session, a name in the working directory."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(script) if script else Path.cwd() / "notebook"
