"""Measure what reporting each fit as an event costs the client.

    make bench-stream
    python benchmarks/stream.py --fits 1000 --rounds 1

The first row is a search of tiny fits on two workers of this machine, without and with events that go to a file, in
turns: fits a second. These differ by less than from round to round, so the second row has the client's part alone: the
CPU time from the result of one fit to its line in the file.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, thread_time, time

import joblib
import numpy
from distributed import Client, LocalCluster
from joblib.parallel import Parallel
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection._validation import _fit_and_score

from skjob.engine.backend import SkjobBackend
from skjob.engine.events import Report
from skjob.engine.joblib_calls import JoblibCall
from skjob.engine.reporting.call_events import RunEvents
from skjob.engine.task import Outcome
from skjob.run.events.file import EventsWriter, read_events

SPLITS = 5


def fits_a_second(client: Client, fits: int, report: Report | None) -> float:
    """Return how many fits of a search finish a second."""
    X, y = numpy.zeros((50, 2)), numpy.arange(50) % 2
    search = GridSearchCV(DummyClassifier(), {"random_state": range(fits // SPLITS)}, cv=SPLITS, n_jobs=-1, refit=False)
    with joblib.parallel_config(backend=SkjobBackend(client, report=report)):
        began = perf_counter()
        search.fit(X, y)
        return fits / (perf_counter() - began)


def seconds_a_fit(fits: int, folder: Path) -> float:
    """Return the seconds of CPU from the result of a fit to its line in the file."""
    writer = EventsWriter(folder)
    keywords = {"parameters": {"random_state": 0}, "split_progress": (0, SPLITS)}
    result = {"fit_error": None, "test_scores": 0.5, "n_test_samples": 10, "fit_time": 0.001, "score_time": 0.001}
    calls: list[JoblibCall] = [
        (_fit_and_score, (DummyClassifier(),), {**keywords, "candidate_progress": (number // SPLITS, fits)})
        for number in range(fits)
    ]
    outcomes = [Outcome(True, b"", 0.001, worker="0", ended=time()) for _ in calls]
    events = RunEvents(writer.report).begin_call(Parallel(), calls[0], fits, sys._getframe())
    events.begin_on_workers(0)
    began = thread_time()
    for number, (call, outcome) in enumerate(zip(calls, outcomes, strict=True)):
        events.batch(number, [call], [result], [outcome])
    seconds = thread_time() - began
    events.end(ok=True)
    writer.close()
    written = sum(1 for _ in read_events(folder))
    assert written == fits + 2, written
    return seconds / fits


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fits", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    without, with_events, alone = [], [], []
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        fits_a_second(client, 100, None)  # workers import
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            own = Path(folder) / str(number)
            for each in (own / "search", own / "alone"):
                each.mkdir(parents=True)
            without.append(fits_a_second(client, options.fits, None))
            with_events.append(fits_a_second(client, options.fits, EventsWriter(own / "search").report))
            alone.append(seconds_a_fit(options.fits, own / "alone"))
    print("| | without events | with events |\n| --- | ---: | ---: |")
    print(f"| fits a second | {statistics.median(without):.0f} | {statistics.median(with_events):.0f} |")
    print(f"| client's time for the events of a fit | | {statistics.median(alone) * 1e3:.3f} ms |")


if __name__ == "__main__":
    main()
