"""How far a training has come: the model after so many rounds, and the scores of each. Pure, without the libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
