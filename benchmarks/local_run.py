"""Measure what a run on this machine costs beside Python alone: an empty script, and a grid search of the digits.

    make bench-local
    python benchmarks/local_run.py --rounds 5

Wall is from the command to its end. CPU is that of all processes it has started, including those that it does not wait
for: this program adopts what its children leave behind, and waits for it (Linux). Python and skjob take turns.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits_grid_search.py"
DEADLINE = 600.0
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER, see prctl(2): this process adopts orphans of its children."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one run."""

    wall: float
    cpu: float


def cost(command: list[str], folder: Path) -> Cost:
    """Run a command to the end of its last process."""
    before, began = _cpu_of_children(), perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)
    wall = perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` failed:\n{done.stderr}")
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return Cost(wall, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median(costs: list[Cost]) -> Cost:
    """Return the medians of wall and CPU time, each by itself."""
    return Cost(statistics.median(each.wall for each in costs), statistics.median(each.cpu for each in costs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)
    skjob = [sys.executable, "-m", "skjob", "run", "--on", "local", "--checkpoint", "none"]
    print(f"load average before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {rounds}\n")
    print("| program | Python: wall | CPU | skjob: wall | CPU | ratio: wall | CPU |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = folder / "empty.py"
        empty.touch()
        for what, program in (("an empty script", empty), ("a grid search of the digits", EXAMPLE)):
            alone, by_skjob = [], []
            for _ in range(rounds):
                alone.append(cost([sys.executable, str(program)], folder))
                by_skjob.append(cost([*skjob, str(program)], folder))
            python, ours = median(alone), median(by_skjob)
            numbers = (python.wall, python.cpu, ours.wall, ours.cpu)
            cells = [f"{number:.2f} s" for number in numbers]
            cells += [f"{ours.wall / python.wall:.1f}", f"{ours.cpu / python.cpu:.1f}"]
            print(f"| {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
