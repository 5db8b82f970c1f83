"""How Sphinx builds the documentation: `make docs`, into build/docs, with warnings as errors."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from reference_parts import filled_in  # noqa: E402 - it is beside this file

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]

project = _project["name"]
version = release = _project["version"]
author = "the skjob contributors"
copyright = author  # noqa: A001 - Sphinx's name for it

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_google_docstring = False
smartquotes = False
default_role = "code"  # in docstrings, as in Markdown

html_theme = "pydata_sphinx_theme"
html_title = "skjob"
html_show_sourcelink = False
html_theme_options = {"github_url": _project["urls"]["Repository"], "show_prev_next": False}


def _fill_in(_app: Any, _page: str, source: list[str]) -> None:
    source[0] = filled_in(source[0])


def setup(app: Any) -> None:
    """Called by Sphinx: put what is generated from the code into the pages."""
    app.connect("source-read", _fill_in)
