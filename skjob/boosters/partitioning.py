"""Where the rows of a training are: its partitions in blocks, in order, on the workers in the order of their names.

XGBoost and LightGBM train where the data is, and Dask puts it wherever there is a thread. Put by rule, the same data on
as many workers gives the same model bit for bit, also after a worker has died and the data was laid out anew.
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

LOOK_AGAIN = 1.0
"""Seconds between two looks whether the workers that read their parts are still there."""


@dataclass(frozen=True)
class Place:
    """A worker of the cluster: its name and its address."""

    name: str
    address: str


def places(client: Any) -> tuple[Place, ...]:
    """The workers that are there, in the order of their names, as XGBoost numbers them; none that nobody tells of."""
    workers: dict[str, Any] = {}
    with suppress(TimeoutError, OSError):
        workers = workers_of(client)
    return tuple(sorted((Place(str(worker["name"]), address) for address, worker in workers.items()), key=_as_xgboost))


def _as_xgboost(place: Place) -> str:
    return f"{place.name}]:{place.address}"


def blocks(parts: int, workers: int) -> list[range]:
    """Which partitions each of the workers gets: one after the other, as equal in number as can be."""
    bounds = [parts * number // workers for number in range(workers + 1)]
    return [range(first, last) for first, last in pairwise(bounds)]


def lay_out(client: Any, rows: Sequence[Any], workers: Sequence[Place]) -> list[Any]:
    """Collections whose rows belong together (features, target, weights, any of them None), computed, with each
    partition of all of them on the worker that the rule says.

    Raises:
        ConfigError: they have not as many partitions each.
        TrainingLost: a worker has gone meanwhile. What goes later is computed elsewhere.
    """
    import dask

    present = [collection for collection in rows if collection is not None]
    parts = _together([_by_rows(collection) for collection in present])
    pieces: list[list[Any]] = [[] for _ in present]
    for place, block in zip(workers, blocks(len(parts), len(workers)), strict=True):
        if not block:
            continue
        pinned = {"workers": [place.address]}
        for bundle in client.compute([parts[number] for number in block], **pinned):
            for number, piece in enumerate(pieces):
                piece.append(client.submit(getitem, bundle, number, **pinned))
    _settle(client, [future for piece in pieces for future in piece], workers)
    made = iter(
        _rebuilt(like, [dask.delayed(future) for future in piece]) for like, piece in zip(present, pieces, strict=True)
    )
    return [None if collection is None else next(made) for collection in rows]


def _settle(client: Any, pieces: list[Any], workers: Sequence[Place]) -> None:
    """Wait until all pieces are where they should be, and let them be computed elsewhere from then on.

    Dask takes tasks that others may do from a busy worker, so that nobody else may do these at first.
    """
    from distributed import wait

    while True:
        try:
            wait(pieces, LOOK_AGAIN)
            break
        except TimeoutError:
            try:
                there = workers_of(client)
            except (TimeoutError, OSError):
                continue  # who does not answer has not said that one has gone
            gone = next((place.name for place in workers if place.address not in there), None)
            if gone is not None:
                client.cancel(pieces, force=True)  # else they wait for that worker, also when they are asked for anew
                raise TrainingLost(f"worker `{gone}` went away while it read its part of the data") from None
    client.run_on_scheduler(_anywhere, [piece.key for piece in pieces])


def _anywhere(keys: Sequence[Any], dask_scheduler: Any = None) -> None:
    """Runs on the scheduler: these tasks, and those that they are made from, may be done by any worker."""
    tasks = [task for key in keys if (task := dask_scheduler.tasks.get(key)) is not None]
    seen = set(tasks)
    while tasks:
        task = tasks.pop()
        task.loose_restrictions = True
        new = task.dependencies - seen
        seen |= new
        tasks += new


def in_parts(collection: Any, parts: int) -> Any:
    """The collection in at least so many partitions, where it has fewer."""
    if collection is None or collection.npartitions >= parts:
        return collection
    if _is_array(collection):
        return collection.rechunk({0: max(1, -(-collection.shape[0] // parts))})
    return collection.repartition(npartitions=parts)


def _by_rows(collection: Any) -> Any:
    """Arrays in pieces of whole rows."""
    if _is_array(collection) and collection.ndim == 2 and len(collection.chunks[1]) > 1:
        return collection.rechunk({1: -1})
    return collection


def _is_array(collection: Any) -> bool:
    return hasattr(collection, "chunks")


def _together(collections: Sequence[Any]) -> list[Any]:
    """For each partition the task that makes a list of its pieces.

    Frames are made one first: Dask reads a file once for all of them, and joins small files, which it would do in
    another way for each alone.
    """
    import dask

    if len({collection.npartitions for collection in collections}) > 1:
        told = ", ".join(str(collection.npartitions) for collection in collections)
        raise ConfigError(
            f"features, target and what else belongs to the rows have different numbers of partitions: {told}",
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


def _rebuilt(like: Any, pieces: list[Any]) -> Any:
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
