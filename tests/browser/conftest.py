"""One browser and one notebook server for all tests, and a notebook for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from chromium import Browser, chromium
from jupyter_lab import BUILD, Notebook, OpenNotebook, Server, jupyter_server


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with jupyter_server(tmp_path_factory.mktemp("jupyter")) as started:
        yield started


@pytest.fixture
def notebook(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[OpenNotebook]:
    """Opens a notebook with these cells; at the end of the test its kernel is shut down."""
    page = browser.new_page()
    page.resize(1280, 900)
    page.prefer("light")
    opened: list[Notebook] = []

    def open_notebook(cells: Sequence[str]) -> Notebook:
        opened.append(Notebook(page, server, request.node.name.partition("[")[0], cells))
        return opened[-1]

    yield open_notebook
    page.screenshot(BUILD / f"{request.node.name}.png")  # whoever looks for why it has failed finds it there
    for each in opened:
        each.shut_down()
    page.close()
