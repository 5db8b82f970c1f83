"""Checkpoints of declared trainings, in a folder or at an address of fsspec's: one file each, replaced as a whole.

A training is known by its content: estimator, parameters, data with the columns and rows that are learned from, version
of XGBoost. A changed job is another training, and begins at round 0.
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
    """A booster after so many rounds, in XGBoost's own format, and the scores of all of them."""

    rounds: int
    booster: bytes
    history: History = field(default_factory=dict)
    finished: bool = False


def joined(before: Mapping[str, Mapping[str, list[float]]], after: Mapping[str, Any]) -> History:
    """The scores of the rounds before, and after these those of a training that went on from there."""
    names = [*before, *(name for name in after if name not in before)]
    return {
        name: {
            metric: [*before.get(name, {}).get(metric, ()), *after.get(name, {}).get(metric, ())]
            for metric in (after.get(name) or before[name])
        }
        for name in names
    }


def first_rounds(history: Mapping[str, Mapping[str, list[float]]], rounds: int) -> History:
    """The scores of the first rounds."""
    return {name: {metric: scores[:rounds] for metric, scores in metrics.items()} for name, metrics in history.items()}


FORMAT = 1

NOT_ITS_RESULT = ("n_jobs", "nthread", "verbosity", "verbose", "client", "coll_cfg")
"""Parameters that change nothing in the model."""


class Kept(Protocol):
    """Where the latest checkpoint of one training is kept. Both methods may raise what the place raises."""

    def find(self) -> Checkpoint | None:
        """The latest; None where there is none that can be believed."""
        ...

    def keep(self, checkpoint: Checkpoint) -> None:
        """In place of the one before."""
        ...


class InMemory:
    """Kept for as long as the program runs."""

    def __init__(self) -> None:
        self._latest: Checkpoint | None = None

    def find(self) -> Checkpoint | None:
        return self._latest

    def keep(self, checkpoint: Checkpoint) -> None:
        self._latest = checkpoint


class Stored:
    """Kept at an address. Raises ConfigError where that can't be written to."""

    def __init__(self, address: str | Path, identity: str) -> None:
        self._backend = StoreBackend(str(address))
        self._group, self._name = f"training-{identity[:16]}", f"{identity}.json"

    def find(self) -> Checkpoint | None:
        content = self._backend.read(self._group, self._name)
        return None if content is None else decode(content)

    def keep(self, checkpoint: Checkpoint) -> None:
        self._backend.write(self._group, self._name, encode(checkpoint))


def encode(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes."""
    entry = {
        "rounds": checkpoint.rounds,
        "finished": checkpoint.finished,
        "history": checkpoint.history,
        "booster": base64.b64encode(checkpoint.booster).decode(),
    }
    text = json.dumps(entry)
    return json.dumps({"format": FORMAT, "sha256": hashlib.sha256(text.encode()).hexdigest(), "entry": text}).encode()


def decode(content: bytes) -> Checkpoint | None:
    """The checkpoint in these bytes; None where they are not what was written."""
    try:
        document = json.loads(content)
        text = document["entry"]
        if document["format"] != FORMAT or hashlib.sha256(text.encode()).hexdigest() != document["sha256"]:
            return None
        entry = json.loads(text)
        booster = base64.b64decode(entry["booster"], validate=True)
        return Checkpoint(int(entry["rounds"]), booster, entry["history"], bool(entry["finished"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def identity_of(estimator: Any, data: str | tuple[Any, ...], library: str) -> str | None:
    """What tells this training from others; None where something in it has no stable content.

    `data` is a text that tells the data's content, or the Dask collections themselves; `library` the version.
    """
    from dask.tokenize import TokenizationError, tokenize

    parameters = {name: value for name, value in estimator.get_params().items() if name not in NOT_ITS_RESULT}
    try:
        return str(
            hashlib.sha256(
                tokenize(
                    FORMAT, library, type(estimator).__name__.removeprefix("Dask"), parameters, data,
                    ensure_deterministic=True,
                ).encode()
            ).hexdigest()
        )  # fmt: skip
    except TokenizationError:
        return None
