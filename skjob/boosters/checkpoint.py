"""Keep the latest checkpoint of each declared training: one file, in a folder or at any fsspec address.

A training is identified by its content: estimator, parameters, data with the columns and rows to learn from, version of
XGBoost. A changed job is another training, and starts at round 0.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from skjob.engine.checkpoint.store import StoreBackend

History = dict[str, dict[str, list[float]]]
"""Scores after each round, by evaluation set and metric."""


@dataclass(frozen=True)
class Checkpoint:
    """A booster in XGBoost's own format, the number of its rounds, and the scores of all of them."""

    rounds: int
    booster: bytes
    history: History = field(default_factory=dict)
    finished: bool = False


def extend_history(before: Mapping[str, Mapping[str, list[float]]], after: Mapping[str, Any]) -> History:
    """Return the scores of earlier rounds, followed by those of the training that continued from there."""
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: {
            metric: [*before.get(name, {}).get(metric, ()), *after.get(name, {}).get(metric, ())]
            for metric in (after.get(name) or before[name])
        }
        for name in names
    }


def first_rounds(history: Mapping[str, Mapping[str, list[float]]], rounds: int) -> History:
    """Return the scores of the first `rounds` rounds."""
    return {name: {metric: scores[:rounds] for metric, scores in metrics.items()} for name, metrics in history.items()}


CHECKPOINT_FORMAT = 1

NO_EFFECT_ON_MODEL = ("n_jobs", "nthread", "verbosity", "verbose", "client", "coll_cfg")
"""Parameters that do not change the model."""


class CheckpointStore(Protocol):
    """Keeps the latest checkpoint of one training. Both methods can raise what the storage raises."""

    def load(self) -> Checkpoint | None:
        """Return the latest checkpoint; None if there is none, or it is damaged."""
        ...

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        ...


class MemoryCheckpointStore:
    """Keeps the checkpoint for as long as the program runs."""

    def __init__(self) -> None:
        self._latest: Checkpoint | None = None

    def load(self) -> Checkpoint | None:
        return self._latest

    def save(self, checkpoint: Checkpoint) -> None:
        self._latest = checkpoint


class FileCheckpointStore:
    """Keeps the checkpoint at an address. Raises ConfigError if the address cannot be written to."""

    def __init__(self, address: str | Path, identity: str) -> None:
        self._backend = StoreBackend(str(address))
        self._group, self._name = f"training-{identity[:16]}", f"{identity}.json"

    def load(self) -> Checkpoint | None:
        content = self._backend.read(self._group, self._name)
        return None if content is None else decode_checkpoint(content)

    def save(self, checkpoint: Checkpoint) -> None:
        self._backend.write(self._group, self._name, encode_checkpoint(checkpoint))


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as bytes."""
    entry = {
        "rounds": checkpoint.rounds,
        "finished": checkpoint.finished,
        "history": checkpoint.history,
        "booster": base64.b64encode(checkpoint.booster).decode(),
    }
    text = json.dumps(entry)
    return json.dumps(
        {"format": CHECKPOINT_FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "entry": text}
    ).encode()


def decode_checkpoint(content: bytes) -> Checkpoint | None:
    """Return the checkpoint in these bytes; None if they are damaged."""
    try:
        document = json.loads(content)
        text = document["entry"]
        if document["format"] != CHECKPOINT_FORMAT or hashlib.sha256(text.encode()).hexdigest() != document["sha256"]:
            return None
        entry = json.loads(text)
        booster = base64.b64decode(entry["booster"], validate=True)
        return Checkpoint(int(entry["rounds"]), booster, entry["history"], bool(entry["finished"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def training_identity(estimator: Any, data: str | tuple[Any, ...], library: str) -> str | None:
    """Return the key of this training; None if something in it has no stable content.

    `data` identifies the data's content, as a text or as the Dask collections themselves; `library` is the version.
    """
    from dask.tokenize import TokenizationError, tokenize

    parameters = {name: value for name, value in estimator.get_params().items() if name not in NO_EFFECT_ON_MODEL}
    try:
        return str(
            hashlib.sha256(
                tokenize(
                    CHECKPOINT_FORMAT, library, type(estimator).__name__.removeprefix("Dask"), parameters, data,
                    ensure_deterministic=True,
                ).encode()
            ).hexdigest()
        )  # fmt: skip
    except TokenizationError:
        return None
