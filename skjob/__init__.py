"""Run a scikit-learn program, unchanged, on your own Kubernetes cluster.

    import skjob

    with skjob.cluster(workers=4):
        search.fit(X, y)

The command line, `skjob run --workers 4 train.py`, needs no change in the program at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ContextDecorator
from sys import is_finalizing as _is_finalizing
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

    from distributed import Client

    from skjob.interactive.session import Session

__all__ = ["Cluster", "cluster"]

_Options = ParamSpec("_Options")
_Function = TypeVar("_Function", bound=Callable[..., Any])


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
) -> AbstractContextManager[Client]:
    """Run every joblib-parallel part of scikit-learn inside the `with` block on a cluster, which ends with the block.

    It is started by the `with` statement, not by the call. `with skjob.cluster() as client` gives the cluster's Dask
    client; `skjob.Cluster`, which is kept over the cells of a notebook, gives itself.

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

    Returns
    -------
    context manager
        Its `with … as` gives the cluster's client, a `distributed.Client`, which is also
        `dask.distributed.Client.current()`.

    Raises
    ------
    skjob.errors.SkjobError
        There is no cluster to use; the message says why, and what to do.
    """
    return _Block(dict(locals()))  # the arguments, and nothing else yet


NOT_STARTED = "not started: write `with skjob.cluster(...):`, or `skjob.Cluster(...)` to keep one"


class _Block(ContextDecorator, AbstractContextManager["Client"]):
    """What `skjob.cluster` returns: it starts a cluster for each `with` block."""

    _session: Session | None = None
    _was_used = False

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def __enter__(self) -> Client:
        if self._session is not None:
            raise RuntimeError("this cluster is open already: call `skjob.cluster(...)` once more for another one")
        self._was_used = True
        session = self._session = _open(self._given)
        session.begin_block()
        client: Client = session.client
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        """Run a function within a block each time that it is called."""
        self._was_used = True
        return super().__call__(function)

    def _recreate_cm(self) -> _Block:
        return _Block(self._given)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"`skjob.cluster(...)` has no `{name}`: {NOT_STARTED}")

    def __repr__(self) -> str:
        return self._session.text if self._session is not None else f"skjob cluster: {NOT_STARTED}"

    def __del__(self) -> None:
        if self._session is not None:  # an interrupt came before the block began
            self._session.release()
        elif not self._was_used and not _is_finalizing():
            import warnings

            warnings.warn(f"skjob: the cluster was {NOT_STARTED}", RuntimeWarning, stacklevel=2)


def _takes_options_of(
    declared: Callable[_Options, Any],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _Options], None]]:
    """Give a method the arguments of a function."""

    def decorate(method: Callable[..., None]) -> Callable[Concatenate[Any, _Options], None]:
        import inspect

        signature = inspect.signature(declared)
        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[itself, *signature.parameters.values()], return_annotation=None
        )
        return method

    return decorate


class Cluster:
    """A cluster that every joblib-parallel part of scikit-learn runs on from now on, until it is closed.

    It is for notebooks: it is kept over cells, and shows itself as a card with its state, workers and cost. `close()`
    ends it, and so does the end of a `with` block, or of the process. Of several, the one that was opened last is used.

    `with skjob.Cluster() as cluster` gives this object; its Dask client is `cluster.client`.

    One that is used by `name` is taken over from an earlier `Cluster` of this process, which is closed first. Of
    clusters without a name, an earlier one that the new one replaces ends when the new one is there: for a moment, both
    exist.

    The parameters are those of `skjob.cluster`. In a program of `skjob run` it is that run's cluster.

    Raises
    ------
    skjob.errors.SkjobError
        There is no cluster to use; the message says why, and what to do.
    """

    @_takes_options_of(cluster)
    def __init__(self, *arguments: Any, **named: Any) -> None:
        import inspect
        import weakref

        bound = inspect.signature(cluster).bind(*arguments, **named)
        self._session = _open(bound.arguments, replaces=True)
        self._session.shown_as = weakref.ref(self)

    @property
    def client(self) -> Client:
        """The cluster's Dask client, which is also `dask.distributed.Client.current()`."""
        client: Client = self._session.client
        return client

    @property
    def name(self) -> str:
        """What the cluster is called, in `skjob ps` for example."""
        return self._session.state.name

    @property
    def status(self) -> str:
        """`ready`, `lost`, `closing` or `closed`."""
        return self._session.state.status.value

    @property
    def dashboard_link(self) -> str:
        """The address of Dask's dashboard; empty if you could not open it, or the scheduler has no bokeh.

        On Kubernetes, skjob's image brings bokeh, and a port of this machine is forwarded to the scheduler from the
        first time on that this is read. On this machine, bokeh must be installed.
        """
        return self._session.dashboard_link

    def scale(self, workers: int | str | tuple[int, int]) -> None:
        """Change the number of workers, to a number or a range to scale in. It does not wait for them.

        Surplus workers go as soon as they have nothing to do: no fit is lost.

        Parameters
        ----------
        workers : int, "MIN:MAX" or (MIN, MAX)
        """
        self._session.scale(workers)

    def close(self) -> None:
        """End the cluster. One that was used by name is left, for others to use. A second call does nothing."""
        self._session.close()

    def __enter__(self) -> Cluster:
        self._session.begin_block()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close(kind, error, traceback)

    def __del__(self) -> None:
        # Running a cell again replaces the cluster that it has made before.
        if (session := self.__dict__.get("_session")) is not None:
            session.release()

    def __repr__(self) -> str:
        return self._session.text

    def _repr_html_(self) -> str:
        return self._session.html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self._session.text, "text/html": self._session.html}

    def _ipython_display_(self) -> None:
        """Called by IPython to display it: the card changes as the cluster does."""
        self._session.show_card()


def _open(given: Mapping[str, Any], *, replaces: bool = False) -> Session:
    from skjob.utils.operating_system import check_supported

    check_supported()
    from skjob.interactive.session import Session

    session = Session(given)
    session.open(replaces=replaces)
    return session
