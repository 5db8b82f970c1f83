"""Past runs for tests: records and events made from the types that a run writes, on disk as a run leaves them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skjob.engine.events import CallFinished, CallStarted, Event, FitFinished, FitStatus, TasksFinished
from skjob.run.events.file import EventsWriter
from skjob.run.record import Record, RunOutcome, RunStep, WorkersAt, run_file

RUN_ID = "20261129-142828-32cc5e"
STARTED = "2026-11-29T14:28:28.000+00:00"
EPOCH = 1795962508.0
"""The same moment in seconds since the epoch."""


def a_record(run_id: str = RUN_ID, **fields: Any) -> Record:
    """The record of a run of `train.py` on this machine that has succeeded."""
    known: dict[str, Any] = {
        "program": "train.py",
        "arguments": ["--depth", "3"],
        "started": STARTED,
        "versions": {"python": "3.11.7", "skjob": "0.1.0", "scikit-learn": "1.9.1", "numpy": "2.4.6"},
        "place": "local",
        "why": "running on this machine: `--on` is `local`",
        "cluster": {"name": "skjob-train-32cc5e", "workers": "2", "worker_threads": 1, "worker_memory": 2**31},
        "steps": [
            RunStep("start the scheduler", STARTED, 2.5),
            RunStep("run the program", "2026-11-29T14:28:31.000+00:00", 40.0),
            RunStep("remove the cluster", "2026-11-29T14:29:11.000+00:00", 0.5),
        ],
        "workers": [WorkersAt(2.6, 2, 0, 2), WorkersAt(30.0, 2, 0, 1), WorkersAt(33.0, 2, 0, 2)],
        "peak_memory": {"0": 150 * 2**20, "1": 170 * 2**20},
        "notes": ["running on this machine: `--on` is `local`"],
        "cost": {"amount": 0.12, "currency": "EUR", "most": 5.0},
        "outcome": RunOutcome("succeeded", 0),
        "seconds": 43.5,
    }
    return Record(run_id, **{**known, **fields})


def a_search(
    candidates: int = 32, splits: int = 5, *, workers: int = 2, failing: Iterable[int] = (7,), reused: int = 3
) -> Iterator[Event]:
    """The events of a search over `C`, `gamma` and `kernel`: some candidates fail, the first ones are reused."""
    metric = "score"
    yield CallStarted(
        1, EPOCH + 3, "RandomizedSearchCV", "SVC", 1, candidates=candidates, splits=splits, tasks=candidates * splits,
        metric=metric,
    )  # fmt: skip
    failing, free = set(failing), [EPOCH + 3.5 + 0.1 * worker for worker in range(workers)]
    for candidate in range(candidates):
        c, gamma = 10 ** (-2 + 5 * (candidate * 7919 % 101) / 100), 10 ** (-5 + 4 * (candidate * 104729 % 97) / 96)
        kernel = ("rbf", "sigmoid", "poly")[candidate % 3]
        mean = 0.95 - 0.1 * abs(math.log10(c * gamma)) / 3 - 0.02 * (kernel != "rbf")
        for split in range(splits):
            worker = min(range(workers), key=free.__getitem__)
            seconds = 0.2 + (candidate * 31 + split * 17) % 50 / 50
            parameters = {"C": f"{c:.6g}", "gamma": f"{gamma:.6g}", "kernel": kernel, "tol": "0.001"}
            status, error, score = FitStatus.DONE, "", mean + 0.01 * math.sin(candidate + 3 * split)
            if candidate < reused:
                status, seconds = FitStatus.REUSED, 0.0
            elif candidate in failing:
                status, score = FitStatus.FAILED, math.nan
                error = f"ValueError: gamma == {gamma:.3f} must be positive"
            yield FitFinished(
                1, candidate * splits + split, candidate, split, parameters if split == 0 else None,
                scores={metric: score}, fit_seconds=seconds * 0.9, score_seconds=seconds * 0.1,
                worker="" if status is FitStatus.REUSED else str(worker), started=free[worker], seconds=seconds,
                status=status, error=error,
            )  # fmt: skip
            if status is not FitStatus.REUSED:
                free[worker] += seconds
    yield CallFinished(1, max(free))


def a_forest(call: int = 2) -> Iterator[Event]:
    """The events of a call that fits no search."""
    yield CallStarted(call, EPOCH + 41, "RandomForestClassifier", "DecisionTreeClassifier", tasks=100)
    yield TasksFinished(call, 60, "0", EPOCH + 41.1, 0.6)
    yield TasksFinished(call, 40, "1", EPOCH + 41.1, 0.4)
    yield CallFinished(call, EPOCH + 42)


def write_run(folder: Path, record: Record, events: Iterable[Event] | None = ()) -> Path:
    """Write a run below a folder as `skjob run` does, and return its own folder; None for events writes no file."""
    path = folder / run_file(record.run_id)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(asdict(record), indent=2) + "\n")
    if events is not None:
        writer = EventsWriter(path.parent)
        for event in events:
            writer.report(event)
        writer.close()
    return path.parent
