"""Time the story of the seed article, step by step: Python alone, skjob here and skjob on Kubernetes, side by side.

    make bench-story                                # on Kubernetes too, if `make kind` has made one
    python benchmarks/story.py --rounds 3 --machines 50
    python benchmarks/story.py forest grid --on python,local

Each step is a program of examples/, run as a user runs it; `fit` is what the program itself prints, `all` is from the
command to its end, including the start and removal of a cluster. Python alone uses every core, as `n_jobs=-1` does. The
workers on Kubernetes are pods on these same cores: computations cannot be faster there than here, and for real fits the
table shows the cost of the way there. Where the article shows twenty or a hundred machines, fits **sleep**, so that
many pods can act as many machines.

The environment is made in the namespace before anything is timed; its time is printed below the table.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import copytree
from time import perf_counter

import uv

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CONTEXT, NAMESPACE, IMAGE = "kind-skjob", "default", "localhost/skjob:dev"
WORKER_CPU, WORKER_MEMORY = "50m", "512Mi"
DEADLINE = 900.0

PLACES = {"python": "Python alone", "local": "skjob, this machine", "kubernetes": "skjob, Kubernetes"}
FITTED = re.compile(r"fitted in (\d+\.\d+) s")


@dataclass(frozen=True)
class Step:
    """A program of examples/ with its arguments, and its number of workers on Kubernetes."""

    name: str
    what: str
    program: str
    arguments: tuple[str, ...] = ()
    workers: str = "2"


@dataclass(frozen=True)
class Times:
    """Seconds of one run: of its fits, and of all of it."""

    fit: float
    whole: float


Measured = dict[tuple[str, str], list[Times]]
"""The times of all rounds, by step and place; a failed run has none."""


def story(machines: int, quick: bool) -> list[Step]:
    """Return the steps in the article's order."""
    candidates = 2 if quick else 2 * machines
    sleeping = ("--candidates", str(candidates), "--seconds", "0.1" if quick else "1")
    gib = "0.1" if quick else "2"
    what = f"scaled up for the search: {5 * candidates + 1} fits that sleep, {machines} workers on Kubernetes"
    return [
        Step("forest", "a random forest, `n_jobs=-1`", "random_forest.py"),
        Step("grid", "a grid search", "digits_grid_search.py"),
        Step("scaled", what, "scaled_up_search.py", sleeping, f"1:{machines}"),
        Step("package", "package sync", "own_package.py"),
        Step("larger", f"larger than memory: {gib} GiB, workers of 512 MiB", "larger_than_memory.py", ("--gib", gib)),
        Step("xgboost", "XGBoost", "xgboost_on_dask.py"),
    ]


def user_python(folder: Path) -> str:
    """Make an interpreter in `folder` with what is installed here, and the examples' own package."""
    environment = folder / "venv"
    python = str(environment / "bin" / "python")
    _uv("venv", "--quiet", "--python", sys.executable, str(environment))
    [site] = environment.glob("lib/python*/site-packages")
    (site / "all_that_is_here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install_package(python, folder)
    return python


def install_package(python: str, folder: Path) -> None:
    """Install the examples' own package in editable mode for this interpreter, from `folder`."""
    package = folder / "digit-features"
    copytree(EXAMPLES / "digit-features", package)  # a build would leave its traces
    _uv("pip", "install", "--quiet", "--no-deps", "--python", python, "--editable", str(package))


def _uv(*arguments: str) -> None:
    done = subprocess.run([uv.find_uv_bin(), *arguments], capture_output=True, text=True, timeout=DEADLINE)
    if done.returncode != 0:
        raise RuntimeError(f"`uv {' '.join(arguments)}` failed:\n{done.stderr}")


def command(python: str, program: Path, place: str, workers: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command by which a user runs a program there."""
    if place == "python":
        return [python, str(program), *arguments]
    # No round may reuse the fits of the one before.
    run = [python, "-m", "skjob", "run", "--on", place, "--checkpoint", "none"]
    if place == "kubernetes":
        size = ["--worker-cpu", WORKER_CPU, "--worker-memory", WORKER_MEMORY]
        run += ["--context", CONTEXT, "--namespace", NAMESPACE, "--image", IMAGE, *size, "--workers", workers]
    return [*run, str(program), *arguments]


def timed(command: Sequence[str], folder: Path) -> Times | None:
    """Run a command and return its seconds. If it fails, print its stderr and return None."""
    began = perf_counter()
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        print(f"`{' '.join(command)}` took more than {DEADLINE:.0f} s", file=sys.stderr)
        return None
    whole = perf_counter() - began
    if done.returncode != 0:
        print(f"`{' '.join(command)}` failed:\n{done.stderr}", file=sys.stderr)
        return None
    return Times(sum(map(float, FITTED.findall(done.stdout))), whole)


def why_no_kubernetes(folder: Path) -> str | None:
    """Return None if the cluster of `make kind` is ready, else the output of `skjob doctor`."""
    doctor = [sys.executable, "-m", "skjob", "doctor", "--context", CONTEXT, "--namespace", NAMESPACE, "--skip-image"]
    done = subprocess.run(doctor, cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    return None if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())


def measure_all(steps: Sequence[Step], places: Sequence[str], rounds: int, python: str, folder: Path) -> Measured:
    """Measure round by round, in each round step by step, and each step place by place."""
    measured: Measured = {(step.name, place): [] for step in steps for place in places}
    for number in range(1, rounds + 1):
        for step in steps:
            for place in places:
                run = command(python, EXAMPLES / step.program, place, step.workers, step.arguments)
                times = timed(run, folder)
                result = f"fit {times.fit:.1f} s, all {times.whole:.1f} s" if times else "failed"
                print(f"{step.name}, round {number}, {PLACES[place]}: {result}", file=sys.stderr, flush=True)
                if times:
                    measured[step.name, place].append(times)
    return measured


def table(steps: Iterable[Step], places: Sequence[str], measured: Measured) -> str:
    """Return the medians in Markdown; ratios compare fits with Python alone."""
    compared = [place for place in places if place != "python" and "python" in places]
    head = ["step"]
    head += [f"{PLACES[place]}: {what}" for place in places for what in ("fit", "all")]
    head += [f"fit, {PLACES[place]} : Python alone" for place in compared]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for step in steps:
        fits = {place: _median(times.fit for times in measured[step.name, place]) for place in places}
        wholes = {place: _median(times.whole for times in measured[step.name, place]) for place in places}
        cells = [f"{seconds:.1f}" for place in places for seconds in (fits[place], wholes[place])]
        lines.append([step.what, *cells, *(f"{fits[place] / fits['python']:.2f}" for place in compared)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(seconds: Iterable[float]) -> float:
    return statistics.median(list(seconds) or [float("nan")])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [step.name for step in story(1, True)]
    parser.add_argument("names", nargs="*", metavar="STEP", help=f"some of {', '.join(names)}; all by default")
    parser.add_argument("--on", default=",".join(PLACES), help="where, with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machines", type=int, default=20, help="how many workers the search is scaled up to")
    parser.add_argument("--quick", action="store_true", help="one round, short sleeps: whether it works")
    options = parser.parse_args()
    places = options.on.split(",")
    for name in {*options.names} - {*names} | {*places} - {*PLACES}:
        parser.error(f"there is no `{name}`: steps are {', '.join(names)}; places are {', '.join(PLACES)}")
    steps = [step for step in story(options.machines, options.quick) if step.name in (options.names or names)]

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        notes = []
        if "kubernetes" in places and (why := why_no_kubernetes(folder)):
            places.remove("kubernetes")
            notes.append(f"Not on Kubernetes, `make kind` makes one: {why}")
        python = user_python(folder)
        if "kubernetes" in places:
            first = folder / "first.py"
            first.write_text("print('the environment is there')\n")
            environment = timed(command(python, first, "kubernetes", "1"), folder)
            if environment is None:
                return 1
            notes.append(
                f"Before: a first run with nothing to fit, which makes the environment: {environment.whole:.1f} s"
            )
        measured = measure_all(steps, places, 1 if options.quick else options.rounds, python, folder)
    if options.quick:
        print("**Quick: the numbers mean nothing.**\n")
    print(f"{machine()}\n\n{table(steps, places, measured)}\n")
    print(*notes, sep="\n")
    return 0 if all(measured.values()) else 1


def machine() -> str:
    """Describe the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("scikit-learn", "distributed", "joblib"))
    return f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions}; seconds"


if __name__ == "__main__":
    sys.exit(main())
