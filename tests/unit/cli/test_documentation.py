"""Check that the documentation only names options that exist, and each option of `run` and `up`."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference_parts
from doc_blocks import PAGES, ROOT

import skjob
from skjob.cli.run_arguments import split_words
from skjob.config.sources import is_setting

pytestmark = pytest.mark.unit

OTHER_TOOLS = {"--cascade", "--no-hooks", "--set"}
"""Options of kubectl and helm that pages mention without the command."""

COMMANDS = {name.removeprefix("skjob "): command for name, command in reference_parts.all_commands().items()}


def _options(command: Any) -> dict[str, bool]:
    """Return each option of a command, and whether it takes a value."""
    return {
        name: not param.is_flag for param in command.params if param.param_type_name == "option" for name in param.opts
    } | {"--help": False, "-h": False}


OPTIONS = {name: _options(command) for name, command in COMMANDS.items()}


def _code(page: Path) -> Iterator[str]:
    """Yield each line of a code block, and each inline code of a text line."""
    for number, part in enumerate(page.read_text().split("```")):
        yield from part.splitlines()[1:] if number % 2 else re.findall(r"`([^`\n]+)`", part)


def _skjob_options(code: str) -> Iterator[tuple[str, str]]:
    """Yield each option of skjob's in code, with its command."""
    for found in re.finditer(r"\bskjob ([a-z]+)\b([^|;&>`)\n]*)", code):
        command, rest = found[1], found[2]
        words = shlex.split(rest, comments=True) if rest.count("'") % 2 == rest.count('"') % 2 == 0 else rest.split()
        if f"{command} {words[0] if words else ''}" in OPTIONS:
            command = f"{command} {words.pop(0)}"
        if command in OPTIONS:
            own = split_words(words, OPTIONS["run"]).options if command == "run" else words
            yield from ((command, word.partition("=")[0]) for word in own if word.startswith("-") and word != "-")


def test_the_readme_has_options_to_look_at() -> None:
    found = {option for code in _code(PAGES[0]) for option in _skjob_options(code)}
    assert ("run", "--workers") in found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_option_that_is_named_exists(page: Path) -> None:
    known = OTHER_TOOLS.union(*OPTIONS.values())
    unknown = [
        f"skjob {command} {option}"
        for code in _code(page)
        for command, option in _skjob_options(code)
        if option not in OPTIONS[command]
    ]
    unknown += [
        code for code in _code(page) if re.match("--[a-z]", code) and re.split("[ =]", code, maxsplit=1)[0] not in known
    ]
    assert unknown == []


@pytest.mark.parametrize("command", ["run", "up"])
def test_each_option_is_documented(command: str) -> None:
    text = "\n".join(reference_parts.filled_in(page.read_text()) for page in PAGES)
    params = [param for param in COMMANDS[command].params if param.param_type_name == "option"]
    missing = [
        param.opts
        for param in params
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in param.opts)
    ]
    assert missing == []


def test_each_option_has_a_group_and_a_whole_description() -> None:
    for name, command in COMMANDS.items():
        for param in command.params:
            if param.param_type_name == "option":
                assert param.help, f"skjob {name} {param.opts}"
                assert param.help.endswith((".", "]")), f"skjob {name} {param.opts}"
                grouped = is_setting(param.name) and name in ("run", "up")
                assert not grouped or param.rich_help_panel, f"skjob {name} {param.opts}"


def test_each_argument_of_a_cluster_is_described() -> None:
    described = re.findall(r"^(\w[\w, ]*) : ", inspect.getdoc(skjob.cluster) or "", flags=re.MULTILINE)
    names = [name for line in described for name in line.split(", ")]
    arguments = list(skjob.cluster.__annotations__)
    assert sorted(names) == sorted(name for name in arguments if name != "return")
