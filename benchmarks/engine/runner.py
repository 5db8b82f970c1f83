"""The engine beside what else a user would pick: stock joblib+Dask, loky, dask-ml's searches, Ray's joblib backend.

    make bench-engine                   # everything, with the peers installed in an environment of their own
    python benchmarks/engine a c        # some of it, with the peers that are installed here
    python benchmarks/engine --quick    # check that it works; the numbers mean nothing

One run prints one table: each measurement has a process of its own, peers take turns, and medians of the rounds count.
A quick run has one process, and one cluster for everything that can share it. Where a measurement needs more cores
than the machine has, tasks sleep; g and d's forest are real fits. The docstring of each file says what its letters
measure and how:

    a  400 tasks of 0.5 s               dispatch.py    e  killed at half, run again    checkpoint.py
    b  workers that come while it runs  scaling.py     f  100,000 tasks                dispatch.py
    c  10,000 tasks that do nothing     dispatch.py    g  a forest on real cores       forest.py
    d  200 MB that every task needs     data.py

`ratio` is skjob's number over that of the best peer, named beside it. The table goes to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version

from engine.cluster import shared_clusters
from engine.measure import SKJOB, Case, Numbers, Row, command_of, environment
from engine.peers import missing

SUBJECTS = ("dispatch", "scaling", "data", "checkpoint", "forest")
PEERS = (SKJOB, "dask", "loky", "dask-ml", "ray", "threads")
VERSIONS = ("scikit-learn", "joblib", "distributed", "dask-ml", "ray")

Measured = dict[str, dict[str, list[Numbers] | str]]


def subjects() -> tuple[list[Case], list[Row]]:
    """Return all cases and rows, in the order of their letters."""
    modules = [importlib.import_module(f"engine.{subject}") for subject in SUBJECTS]
    cases = [case for module in modules for case in module.CASES]
    rows = [row for module in modules for row in module.ROWS]
    return sorted(cases, key=lambda case: case.name[0]), sorted(rows, key=lambda row: row.letter)


def measure_here(name: str, peer: str, quick: bool) -> None:
    """Run one measurement in this process, and print its numbers as the last line."""
    cases, _ = subjects()
    case = next(case for case in cases if case.name == name)
    print(json.dumps(case.measure(peer, quick)), flush=True)


def measure(case: Case, peer: str, quick: bool = False) -> Numbers | str:
    """Run one measurement in a process of its own. Return its numbers, or why there are none."""
    process = subprocess.Popen(
        command_of("engine", "--measure", case.name, peer, *(["--quick"] if quick else [])),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, log = process.communicate(timeout=case.timeout)
    except subprocess.TimeoutExpired:
        return f"> {case.timeout:.0f} s"
    finally:
        with suppress(OSError):  # what it left behind; its clusters, in sessions of their own, end with its pipes
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode != 0:
        print(log, file=sys.stderr)
        return "failed"
    numbers: Numbers = json.loads(output.splitlines()[-1])
    return numbers


def measure_all(cases: Sequence[Case], peers: Sequence[str], rounds: int | None, quick: bool) -> Measured:
    """Measure every case round by round, and in each round peer by peer. Drop a peer that fails or times out."""
    measured: Measured = {case.name: {} for case in cases}
    for case in cases:
        for number in range(1 if quick else rounds or case.rounds):
            for peer in (peer for peer in case.peers if peer in peers):
                so_far = measured[case.name].setdefault(peer, "not installed" if missing(peer) else [])
                if isinstance(so_far, str):
                    continue
                numbers = case.measure(peer, True) if quick else measure(case, peer)
                print(f"{case.name}, round {number + 1}, {peer}: {_shown(numbers)}", file=sys.stderr, flush=True)
                if isinstance(numbers, str):
                    measured[case.name][peer] = numbers
                else:
                    so_far.append(numbers)
    return measured


def _shown(numbers: Numbers | str) -> str:
    return numbers if isinstance(numbers, str) else ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())


def table(rows: Sequence[Row], measured: Measured) -> str:
    """Return the Markdown table of the measured rows."""
    cells = [
        row.cells(measured[row.case], PEERS) for row in rows if row.case in measured and row.shown(measured[row.case])
    ]
    lines = [["", "what", *PEERS, "ratio", "goal", "met"], ["---", "---", *["---:"] * (len(PEERS) + 1), "---", "---"]]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*lines, *cells])


def machine() -> str:
    """Describe the machine."""
    cores = len(os.sched_getaffinity(0))
    found = []
    for name in VERSIONS:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return f"{cores} cores, Python {platform.python_version()}, {', '.join(found)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a to g, or one case, as d-array; all by default")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between them")
    parser.add_argument("--rounds", type=int, help="how often each is measured; 3, or 1 where that takes minutes")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: whether it works")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "PEER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_here(*options.measure, options.quick)
        return 0

    cases, rows = subjects()
    chosen = [case for case in cases if not options.names or case.name.startswith(tuple(options.names))]
    with shared_clusters() if options.quick else nullcontext():
        measured = measure_all(chosen, options.peers.split(","), options.rounds, options.quick)
    if options.quick:
        print("**Quick: small sizes, whatever the rows say; the numbers mean nothing.**\n")
    print(f"{machine()}\n\n{table(rows, measured)}")
    return 1 if any(isinstance(by_peer.get(SKJOB), str) for by_peer in measured.values()) else 0
