"""Draw the picture of the live view that the README shows: `make screenshot`.

The run is made up; the view is drawn by the same code that draws it on a terminal.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from skjob.cli.live.content import view
from skjob.deploy.base import WorkerCounts
from skjob.engine.events import CallStarted, FitFinished, FitStatus
from skjob.run.live.state import CostSoFar, RunState

PICTURE = Path(__file__).with_name("images") / "live-view.svg"
COLUMNS = 96
BEGAN = 1_000_000.0
NOW = BEGAN + 74
ABOVE = """\
$ skjob run --workers 20 --max-cost 2 train.py
skjob: running on Kubernetes: context `research`, namespace `anna`
skjob: start the scheduler: 3.5 s
skjob: connect: 0.2 s
skjob: wait for the first worker: 0.1 s
loading 1797 images
searching C, gamma and the kernel of a support vector machine
"""
THEME = TerminalTheme(
    (255, 255, 255),
    (36, 41, 47),
    [
        (36, 41, 47),
        (207, 34, 46),
        (17, 99, 41),
        (77, 45, 0),
        (9, 105, 218),
        (130, 80, 223),
        (27, 124, 131),
        (110, 119, 129),
    ],
    [(208, 215, 222)] * 8,
)
GAMMAS = ("0.0001", "0.0005", "0.001", "0.005", "0.01", "0.05")
FONTS = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def sample() -> RunState:
    """Return a search of 360 fits, 131 of them done, and 20 of these reused."""
    state = RunState(began=BEGAN)
    state.set_workers(WorkerCounts(20, 20, 18))
    state.set_cost(CostSoFar(0.14, "EUR", 2.0))
    state.add(CallStarted(1, BEGAN + 5, "GridSearchCV", "SVC", search=1, candidates=72, splits=5, metric="score"))
    grid = [*itertools.product(("0.1", "1", "10", "100"), GAMMAS, ("rbf", "poly", "sigmoid"))]
    for task in range(131):
        candidate, split = divmod(task, 5)
        c, gamma, kernel = grid[candidate]
        mean = 0.9785 - 0.004 * abs(candidate - 19) ** 0.7
        status = FitStatus.REUSED if task < 20 else FitStatus.DONE
        scores = {"score": mean + (split - 2) * (0.002 + candidate % 4 / 1500)}
        parameters = {"C": c, "gamma": gamma, "kernel": kernel} if split == 0 else None
        fit = FitFinished(1, task, candidate, split, parameters, scores, started=BEGAN + 5 + task * 0.5, status=status)
        state.add(fit if status is FitStatus.REUSED else replace(fit, seconds=9.4))
    return state


def picture() -> str:
    """Return the picture as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(Text(ABOVE))
    console.print(view(sample(), NOW, COLUMNS, 12))
    drawn = console.export_svg(title="skjob run", theme=THEME, unique_id="live-view")
    return without_fonts(drawn)


def without_fonts(drawn: str) -> str:
    """Return the picture with fonts of the reader's machine: rich's own would come from the network."""
    before, _, rest = drawn.partition("@font-face")
    *_, after = rest.rpartition("@font-face")[2].partition("}")
    return (before.rstrip() + after).replace("Fira Code, monospace", FONTS)


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture())
