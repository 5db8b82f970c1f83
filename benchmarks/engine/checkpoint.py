"""e: rerun a search of 60 fits whose client was killed half-way; and measure what keeping each fit costs.

The client is a process of its own, killed with SIGKILL when half of the fits are finished and the running ones are in
their middle; the cluster keeps running. Each fit writes a line when it begins and ends, so that the fits repeated by
the second run are counted where they happen. Peers keep nothing, and show what that means. The cost of keeping is
measured by the same search with and without, in turns, in one process.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import joblib
import numpy
from sklearn.model_selection import GridSearchCV

from engine.measure import SKJOB, Case, Numbers, Row, command_of, environment, timed
from engine.peers import OURS, backend, connect, engine
from engine.tasks import Sleeper

CANDIDATES, FOLDS, WORKERS, QUICK_WORKERS = 20, 3, 4, 2
LOG = "__pycache__/log"
"""The fits' log, in a folder of caches: a fit that writes any other file is not kept."""
CHECKPOINT = "checkpoint"
DEADLINE = 300.0


def make_search(seconds: float, log: str = "") -> GridSearchCV:
    """Return a search of 60 seeded fits."""
    return GridSearchCV(
        Sleeper(seconds, log=log, random_state=0), {"number": list(range(CANDIDATES))}, cv=FOLDS, refit=False
    )


def data() -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return data that is the same in every process."""
    return numpy.random.default_rng(0).normal(size=(3000, 20)), numpy.arange(3000) % 2


def killed(peer: str, quick: bool) -> Numbers:
    """Run, kill half-way, run again, and count the finished fits that the second run repeats."""
    seconds, workers = (0.2, QUICK_WORKERS) if quick else (1.0, WORKERS)
    with tempfile.TemporaryDirectory() as folder, _cluster(peer, workers) as client:
        order = {
            "peer": peer,
            "address": client.scheduler.address if client is not None else "",
            "folder": folder,
            "seconds": seconds,
            "workers": workers,
        }
        log = Path(folder) / LOG
        log.parent.mkdir()
        first = _start(order)
        try:
            at = _half_finished(log, first, seconds)
            finished = {fit for when, word, fit in _lines(log) if word == "ended" and when < at}
            if quick and peer == OURS:  # on a busy machine the client may not know the last ones yet
                finished = _all_kept(log, first, Path(folder) / CHECKPOINT)
            first.kill()
            first.wait()
            time.sleep(2 * seconds)  # running fits end on their workers, which cannot stop them
        finally:
            _end_all(first)
        log.unlink()
        second = _start(order)
        try:
            assert second.wait(DEADLINE) == 0, "the second run failed"
        finally:
            _end_all(second)
        scores = json.loads(Path(folder, "scores").read_text())
        begun = [fit for _, word, fit in _lines(log) if word == "begun"]
        assert scores == [round(float(score), 9) for score in _expected()]
        assert len(finished.union(begun)) == CANDIDATES * FOLDS
    return {"finished": len(finished), "repeated": len([fit for fit in begun if fit in finished]), "begun": len(begun)}


def cost(peer: str, quick: bool) -> Numbers:
    """Time the same search without and with a checkpoint, in turns."""
    seconds, turns, workers = (0.02, 1, QUICK_WORKERS) if quick else (0.5, 5, WORKERS)
    X, y = data()
    plain, kept = [], []
    with tempfile.TemporaryDirectory() as folder, engine(peer, workers) as client:
        make_search(0.0).fit(X, y)
        for turn in range(turns):
            numbers: Numbers = {}
            with timed(numbers, "plain"):
                make_search(seconds).fit(X, y)
            with backend(peer, client, workers, checkpoint=f"{folder}/{turn}"), timed(numbers, "kept"):
                make_search(seconds).fit(X, y)
            plain.append(numbers["plain"])
            kept.append(numbers["kept"])
            assert any(Path(folder, str(turn)).rglob("*"))
    without, with_it = statistics.median(plain), statistics.median(kept)
    return {"plain": without, "kept": with_it, "percent": 100 * (with_it / without - 1)}


def _cluster(peer: str, workers: int) -> Any:
    return nullcontext() if peer == "loky" else engine(peer, workers)


def _expected() -> numpy.ndarray:
    """Return the scores of all candidates, fitted here one after the other."""
    X, y = data()
    with joblib.parallel_config(n_jobs=1):
        return make_search(0.0).fit(X, y).cv_results_["mean_test_score"]


def _start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    command = command_of("engine.checkpoint", json.dumps(order))
    return subprocess.Popen(command, env=environment(), start_new_session=True)


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Kill the client and what it started: loky's workers outlive it for a while."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _half_finished(log: Path, process: subprocess.Popen[bytes], seconds: float) -> float:
    """Wait until half of the fits have ended and none has ended lately. Return that moment."""
    deadline = time.monotonic() + DEADLINE
    quiet = seconds / 3
    while time.monotonic() < deadline and process.poll() is None:
        ended = [when for when, word, _ in _lines(log) if word == "ended"]
        if len(ended) >= CANDIDATES * FOLDS // 2 and time.time() - max(ended) > quiet:
            return time.time()
        time.sleep(0.02)
    raise RuntimeError("the search did not get half-way")


def _all_kept(log: Path, process: subprocess.Popen[bytes], checkpoint: Path) -> set[str]:
    """Wait for a moment at which the checkpoint has every fit that has ended. Return those fits."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        kept = len(list(checkpoint.glob("*/*.json")))
        ended = {fit for _, word, fit in _lines(log) if word == "ended"}
        if kept == len(ended):
            return ended
        time.sleep(0.02)
    raise RuntimeError("there was no moment at which all fits that had ended were kept")


def _lines(log: Path) -> list[tuple[float, str, str]]:
    if not log.exists():
        return []
    parts = [line.split(" ", 2) for line in log.read_text().splitlines()]
    return [(float(when), word, fit) for when, word, fit in parts]


def _client(order: dict[str, Any]) -> None:
    """Run the process that is killed."""
    X, y = data()
    search = make_search(order["seconds"], f"{order['folder']}/{LOG}")
    if order["peer"] == "loky":
        with joblib.parallel_config(backend="loky", n_jobs=order["workers"]):
            search.fit(X, y)
    else:
        kept = {"checkpoint": f"{order['folder']}/{CHECKPOINT}"} if order["peer"] == OURS else {}
        with connect(order["address"]) as client, backend(order["peer"], client, order["workers"], **kept):
            search.fit(X, y)
    scores = [round(float(score), 9) for score in search.cv_results_["mean_test_score"]]
    Path(order["folder"], "scores").write_text(json.dumps(scores))


CASES = (
    Case("e-killed", killed, (SKJOB, "dask", "loky")),
    Case("e-cost", cost, (SKJOB,), rounds=1),
)

ROWS = (
    Row("e", "search of 60 fits, client killed at half: finished fits", "e-killed", "finished", "{:.0f}"),
    Row("e", "… of these repeated by the second run", "e-killed", "repeated", "{:.0f}", 0, "0"),
    Row("e", "search of 60 fits of 0.5 s, nothing kept: seconds", "e-cost", "plain", "{:.2f}"),
    Row("e", "what a checkpoint adds to it, %", "e-cost", "percent", "{:.1f}", 3.0, "< 3 %"),
)

if __name__ == "__main__":
    _client(json.loads(sys.argv[1]))
