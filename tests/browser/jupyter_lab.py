"""JupyterLab with a real server and kernels, as a user has it, and a notebook of it in a page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from chromium import Page
from support.wait import until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-browser"
BUILD = ROOT / "build" / "notebook"
START_TIMEOUT = 90.0
CELL_TIMEOUT = 240.0
IDLE = "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status == 'idle'"
KEY_TIMEOUT = 5.0
"""Seconds within which a page that has got a key does something."""
CELLS = ".jp-Notebook .jp-CodeCell"
PANEL = "const panel = [...jupyterapp.shell.widgets('main')].find(each => each.sessionContext);"
SETTINGS = {
    "apputils-extension/themes": {"adaptive-theme": True},
    "apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false", "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@dataclass(frozen=True)
class Server:
    """A server that has started, and the folder that it serves."""

    address: str
    token: str
    folder: Path


@contextmanager
def jupyter_server(folder: Path) -> Iterator[Server]:
    """Run JupyterLab, with settings of its own, for notebooks in a folder."""
    program = ENVIRONMENT / "bin" / "jupyter-lab"
    if not program.exists():
        pytest.fail("there is no JupyterLab: `make test-browser` installs it")
    notebooks, own = folder / "notebooks", folder / "jupyter"
    notebooks.mkdir()
    for name, values in SETTINGS.items():
        path = own / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    left_out = (
        "SKJOB_",
        "JUPYTER",
        "PYTHON",
        "NB_PREFIX",
        "KUBERNETES_",
        "SSH_",
    )  # some mean that a browser is elsewhere
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    variables = {
        **kept, "HOME": str(own), "JUPYTER_CONFIG_DIR": str(own / "config"), "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"), "IPYTHONDIR": str(own / "ipython"),
        "KUBECONFIG": str(own / "none"),
    }  # fmt: skip
    token = "for-tests"
    options = [
        "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root", "--expose-app-in-browser",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={notebooks}",
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, *options], cwd=notebooks, env=variables, stdout=output, stderr=output)
        try:
            found = until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)/lab", log.read_text()), seconds=START_TIMEOUT)
            yield Server(f"http://127.0.0.1:{found[1]}", token, notebooks)
        finally:
            process.terminate()
            process.wait(START_TIMEOUT)


class Notebook:
    """A notebook in a page, whose cells are run one by one as its reader does."""

    def __init__(self, page: Page, server: Server, name: str, cells: Sequence[str]) -> None:
        self.page = page
        self.path = server.folder / f"{name}.ipynb"
        self._cells = len(cells)
        content: dict[str, Any] = {
            "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": [
                {"cell_type": "code", "id": f"cell-{number}", "metadata": {}, "outputs": [], "execution_count": None,
                 "source": dedent(cell).strip()}
                for number, cell in enumerate(cells)
            ],
        }  # fmt: skip
        self.path.write_text(json.dumps(content))
        # A workspace of its own, or the notebooks of earlier tests would come back.
        page.open(f"{server.address}/lab/workspaces/{name}/tree/{name}.ipynb?token={server.token}")
        self._wait(f"window.jupyterapp && document.querySelectorAll('{CELLS}').length == {len(cells)}")
        self._wait(IDLE)

    def run(self, cell: int, *, wait: bool = True) -> None:
        """Run a cell by a click into it and Ctrl-Enter; `wait` until it has ended."""
        before = self.prompt(cell)
        until(lambda: self._begin(cell, before), seconds=START_TIMEOUT)
        if wait:
            self.wait_until_ended(cell, before)

    def wait_until_ended(self, cell: int, before: str = "") -> None:
        """Wait until a cell has ended, whose prompt was another one before, and the kernel waits for the next."""
        self.wait_for(lambda: re.fullmatch(r"\[\d+\]:", now := self.prompt(cell)) and now != before)
        self._wait(IDLE)

    def _begin(self, cell: int, before: str) -> bool:
        """Run a cell, and return whether it has begun: a page that is still busy with itself loses keys."""
        x, y = self.page.evaluate(
            f"(() => {{ const editor = {_cell(cell)}.querySelector('.jp-InputArea-editor');"
            " editor.scrollIntoView({block: 'center'}); const at = editor.getBoundingClientRect();"
            " return [at.left + at.width / 2, at.top + 8]; })()"
        )
        self.page.click(x, y)
        if not self.page.evaluate(f"{_cell(cell)}.contains(document.activeElement)"):
            return False
        self.page.press_enter_with_control()
        deadline = time.monotonic() + KEY_TIMEOUT
        while (begun := self.prompt(cell) != before) is False and time.monotonic() < deadline:
            time.sleep(0.05)
        return begun

    def prompt(self, cell: int) -> str:
        """Return what stands before a cell: `[1]:`, `[*]:` while it runs."""
        return str(self.page.evaluate(f"{_cell(cell)}.querySelector('.jp-InputPrompt').innerText.trim()"))

    def text(self, cell: int, selector: str = ".jp-Cell-outputArea") -> str:
        """Return the text of a cell's outputs, or of what a selector finds in them, as the reader sees it."""
        found = f"[...{_cell(cell)}.querySelectorAll({json.dumps(selector)})]"
        return str(self.page.evaluate(f"{found}.map(each => each.innerText).join('\\n')"))

    def count(self, cell: int, selector: str) -> int:
        """Return how many elements a selector finds in a cell's outputs."""
        return int(self.page.evaluate(f"{_cell(cell)}.querySelectorAll({json.dumps(selector)}).length"))

    def interrupt(self) -> None:
        """Interrupt the kernel."""
        self._in_panel("panel.sessionContext.session.kernel.interrupt()")

    def wait_for(self, condition: Any) -> Any:
        """Wait until a condition holds, and return its value."""
        return until(condition, seconds=CELL_TIMEOUT)

    def saved(self) -> dict[str, Any]:
        """Save the notebook, and return what its file has."""
        self._in_panel("panel.context.save()")
        return dict(json.loads(self.path.read_text()))

    def restart(self) -> None:
        """Restart the kernel, without the question whether that is meant."""
        self._in_panel("panel.sessionContext.restartKernel()")

    def shut_down(self) -> None:
        """End the kernel."""
        self._in_panel("panel.sessionContext.shutdown()")

    def _in_panel(self, expression: str) -> None:
        self.page.evaluate(f"(async () => {{ {PANEL} await {expression}; }})()")

    def _wait(self, expression: str) -> None:
        until(lambda: self.page.evaluate(f"Boolean({expression})"), seconds=START_TIMEOUT)


def _cell(number: int) -> str:
    return f"document.querySelectorAll('{CELLS}')[{number}]"


OpenNotebook = Callable[[Sequence[str]], Notebook]
