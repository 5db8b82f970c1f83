"""Place the rows of a training: its partitions in blocks, in order, on the workers in the order of their names.

XGBoost and LightGBM train where the data is, and Dask puts it on any worker that has a free thread. Placed by a fixed
rule, the same data on the same number of workers gives the same model bit for bit, also after a worker was lost and the
data was laid out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from operator import getitem
from typing import Any

from skjob.boosters.errors import TrainingLost
from skjob.errors import ConfigError
from skjob.utils.dask_client import workers_of

PLACEMENT_POLL_INTERVAL = 1.0
"""Seconds between two checks that the workers reading their parts are still connected."""


@dataclass(frozen=True)
class WorkerRef:
    """A worker of the cluster: its name and its address."""

    name: str
    address: str


def connected_workers(client: Any) -> tuple[WorkerRef, ...]:
    """Return the connected workers in the order in which XGBoost numbers them, by name; none if nothing answers."""
    workers: dict[str, Any] = {}
    with suppress(TimeoutError, OSError):
        workers = workers_of(client)
    return tuple(
        sorted((WorkerRef(str(worker["name"]), address) for address, worker in workers.items()), key=_as_xgboost)
    )


def _as_xgboost(worker: WorkerRef) -> str:
    return f"{worker.name}]:{worker.address}"


def split_evenly(parts: int, workers: int) -> list[range]:
    """Return the partitions of each worker: consecutive ones, as equal in number as possible."""
    bounds = [parts * number // workers for number in range(workers + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


def lay_out(client: Any, rows: Sequence[Any], workers: Sequence[WorkerRef]) -> list[Any]:
    """Compute collections whose rows belong together (features, target, weights, any of them None) where the rule says.

    Raises:
        ConfigError: their numbers of partitions differ.
        TrainingLost: a worker was lost meanwhile. Partitions of a worker lost later are computed elsewhere.
    """
    import dask

    present = [collection for collection in rows if collection is not None]
    parts = _zip_partitions([_by_rows(collection) for collection in present])
    pieces: list[list[Any]] = [[] for _ in present]
    for worker, block in zip(workers, split_evenly(len(parts), len(workers)), strict=True):
        if not block:
            continue
        pinned = {"workers": [worker.address]}
        for bundle in client.compute([parts[number] for number in block], **pinned):
            for number, piece in enumerate(pieces):
                piece.append(client.submit(getitem, bundle, number, **pinned))
    _wait_in_place(client, [future for piece in pieces for future in piece], workers)
    made = iter(
        _rebuild(like, [dask.delayed(future) for future in piece]) for like, piece in zip(present, pieces, strict=True)
    )
    return [None if collection is None else next(made) for collection in rows]


def _wait_in_place(client: Any, pieces: list[Any], workers: Sequence[WorkerRef]) -> None:
    """Wait until all pieces are in place, and allow other workers to recompute them from then on.

    They are pinned at first, because Dask moves tasks away from a busy worker if other workers may run them.
    """
    from distributed import wait

    while True:
        try:
            wait(pieces, PLACEMENT_POLL_INTERVAL)
            break
        except TimeoutError:
            try:
                connected = workers_of(client)
            except (TimeoutError, OSError):
                continue  # no answer does not mean that a worker is lost
            lost = next((worker.name for worker in workers if worker.address not in connected), None)
            if lost is not None:
                client.cancel(pieces, force=True)  # else they wait for that worker, even if requested again
                raise TrainingLost(f"worker `{lost}` was lost while it read its part of the data") from None
    client.run_on_scheduler(_allow_any_worker, [piece.key for piece in pieces])


def _allow_any_worker(keys: Sequence[Any], dask_scheduler: Any = None) -> None:
    """Let any worker run these tasks and their dependencies. Runs on the scheduler."""
    tasks = [task for key in keys if (task := dask_scheduler.tasks.get(key)) is not None]
    seen = set(tasks)
    while tasks:
        task = tasks.pop()
        task.loose_restrictions = True
        new = task.dependencies - seen
        seen |= new
        tasks += new


def with_partitions(collection: Any, parts: int) -> Any:
    """Return the collection in at least `parts` partitions."""
    if collection is None or collection.npartitions >= parts:
        return collection
    if _is_array(collection):
        return collection.rechunk({0: max(1, -(-collection.shape[0] // parts))})
    return collection.repartition(npartitions=parts)


def _by_rows(collection: Any) -> Any:
    """Return an array in chunks of whole rows."""
    if _is_array(collection) and collection.ndim == 2 and len(collection.chunks[1]) > 1:
        return collection.rechunk({1: -1})
    return collection


def _is_array(collection: Any) -> bool:
    return hasattr(collection, "chunks")


def _zip_partitions(collections: Sequence[Any]) -> list[Any]:
    """Return for each partition the task that makes a list of its pieces.

    Frames are combined first: Dask then reads a file once for all of them, and joins small files in the same way.
    """
    import dask

    if len({collection.npartitions for collection in collections}) > 1:
        counts = ", ".join(str(collection.npartitions) for collection in collections)
        raise ConfigError(
            f"features, target and the other columns have different numbers of partitions: {counts}",
            "make them from one collection, or repartition them",
        )
    if not any(_is_array(collection) for collection in collections):
        first, *others = collections
        return list(
            first.map_partitions(
                _as_list, *others, align_dataframes=False, enforce_metadata=False, meta=first._meta
            ).to_delayed()
        )
    parts = [collection.to_delayed() for collection in collections]
    flat = [list(part.ravel()) if hasattr(part, "ravel") else list(part) for part in parts]
    return [dask.delayed(_as_list)(*pieces) for pieces in zip(*flat, strict=True)]


def _as_list(*pieces: Any) -> list[Any]:
    return list(pieces)


def _rebuild(like: Any, pieces: list[Any]) -> Any:
    import dask.array
    import dask.dataframe

    if not _is_array(like):
        return dask.dataframe.from_delayed(pieces, meta=like._meta, verify_meta=False)
    width = (sum(like.chunks[1]),) if like.ndim == 2 else ()
    arrays = [
        dask.array.from_delayed(piece, shape=(rows, *width), meta=like._meta)
        for piece, rows in zip(pieces, like.chunks[0], strict=True)
    ]
    return dask.array.concatenate(arrays, allow_unknown_chunksizes=True)
