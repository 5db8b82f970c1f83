"""The parts of the reference that are made from the code, as Markdown.

A page has `<!-- generated: NAME -->` where one of them goes; Sphinx fills it in as it reads the page (`conf.py`), and
tests/unit/test_docs.py looks at the result.
"""

from __future__ import annotations

import ast
import json
import re
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CHART_SCHEMA = ROOT / "helm" / "skjob" / "values.schema.json"
ENDS_A_RUN = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

ANY = "any value"

_PLACE = re.compile(r"<!-- generated: ([a-z ]+) -->")
_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]")


def filled_in(page: str) -> str:
    """Return a page with what is generated in the place of each comment that asks for it."""
    return _PLACE.sub(lambda found: PARTS[found[1]](), page)


def commands() -> str:
    """Return a section for each command, with its arguments and options."""
    return "\n".join(_command(name, command) for name, command in all_commands().items())


def all_commands() -> dict[str, Any]:
    """Return every command by its whole name, `skjob env build`, as the command line has it."""
    from typer.main import get_command

    from skjob.cli.root import app

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        subcommands = getattr(command, "commands", {})
        if name != "skjob":
            yield name, command
        for word, subcommand in subcommands.items():
            yield from below(f"{name} {word}", subcommand)

    return dict(below("skjob", get_command(app)))


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    lines = [f"## {name}", "", f"`{' '.join([name, *command.collect_usage_pieces(context)])}`", ""]
    lines += [_paragraphs(command.help or ""), ""]
    described = [(f"`{each.get_help_record(context)[0]}`", each.help or "") for each in arguments]
    lines += _table(("argument", "meaning"), described)
    panels = list(dict.fromkeys(each.rich_help_panel or "" for each in options))
    for panel in panels:
        if panel:
            lines += [f"### {panel}", ""]
        within = [_option(each, context) for each in options if (each.rich_help_panel or "") == panel]
        lines += _table(("option", "meaning", "default"), within)
    return "\n".join(lines)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(each.split()) for each in text.replace("\f", "").split("\n\n"))


def _option(option: Any, context: Any) -> tuple[str, str, str]:
    names, _ = option.get_help_record(context)
    return f"`{names}`", *_meaning_and_default(option)


def _meaning_and_default(option: Any) -> tuple[str, str]:
    told = " ".join((option.help or "").split())
    found = _DEFAULT.search(told)
    if found:
        return _DEFAULT.sub("", told).strip(), found[1]
    shown = option.show_default if isinstance(option.show_default, str) else option.default
    return told, "" if shown in (None, False) or callable(shown) else str(shown)


def exit_statuses() -> str:
    """Return the statuses that skjob adds to a script's own."""
    from skjob import errors

    tree = re.findall(r"^    [├└]── (\w+) +(\d+)  (.+)$", errors.__doc__ or "", re.M)
    rows = [(status, f"`{name}`", meaning) for name, status, meaning in tree]
    rows += [(str(128 + each), "", f"stopped by {each.name}") for each in sorted(ENDS_A_RUN)]
    return "\n".join(_table(("status", "error", "what happened"), rows))


def settings() -> str:
    """Return every setting, as the option of `skjob run` describes it."""
    from skjob.config.settings import Settings

    options = {name: each for each in all_commands()["skjob run"].params for name in each.opts}
    rows = []
    for setting in fields(Settings):
        name = setting.name.replace("_", "-")
        meaning, default = _meaning_and_default(options[f"--{name}"])
        rows.append((f"`{name}`", f"`SKJOB_{setting.name.upper()}`", meaning, default))
    return "\n".join(_table(("setting", "variable", "meaning", "default"), rows))


def team_keys() -> str:
    """Return the keys of the ConfigMap that are no settings, as the chart describes them."""
    from skjob.config.sources import LIMITS, TEAM_KEYS

    schema = _chart_schema()
    described = {"team": schema["properties"]["teams"]["items"]["properties"]["name"]["description"]}
    described["pods"] = f"{schema['definitions']['pods']['description']} YAML, as the chart's `pods`."
    for part, prefix in (("placement", ""), ("limits", "limits."), ("costs", "")):
        properties = schema["definitions"][part]["properties"]
        described |= {f"{prefix}{name}": each["description"] for name, each in properties.items()}
    for limit, names in LIMITS.items():
        described |= dict.fromkeys(names, f"An older name of `{limit}`; of several, the strictest value counts.")
    return "\n".join(_table(("key", "meaning"), ((f"`{key}`", described[key]) for key in TEAM_KEYS)))


def job_file() -> str:
    """Return the keys of a job file, those of each part in a section of its own."""
    from skjob.jobfile.schema import json_schema

    schema = json_schema()
    parts = {"DeclaredJob": schema, **schema["$defs"]}
    lines = []
    for name, part in parts.items():
        title = "Keys of a job file" if name == "DeclaredJob" else name
        lines += [f"## {title}", "", _paragraphs(part.get("description", "")), ""]
        required = part.get("required", ())
        rows = [
            (f"`{key}`", _type(said), _schema_default(key, said, required), said.get("description", ""))
            for key, said in part["properties"].items()
        ]
        lines += _table(("key", "value", "default", "meaning"), rows)
    return "\n".join(lines)


def works_with() -> str:
    """Return each library that has a program in tests/works_with, its locked version, and what the program does."""
    lock = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements-works-with.lock").read_text(), re.M))
    folders = sorted(path for path in (ROOT / "tests" / "works_with").iterdir() if path.is_dir())
    rows = [(f"`{folder.name}`", lock[folder.name], _what_it_does(folder)) for folder in folders]
    return "\n".join(_table(("library", "version", "what its program does"), rows))


def _what_it_does(folder: Path) -> str:
    """Return the first paragraph of a program, or of a notebook."""
    if (program := folder / "train.py").is_file():
        return _paragraphs(ast.get_docstring(ast.parse(program.read_text())) or "")
    cells = json.loads((folder / "train.ipynb").read_text())["cells"]
    return "".join(cells[0]["source"])


def chart_values() -> str:
    """Return the values of the chart, a section for each at the top."""
    values = _chart_schema()["properties"]
    lines = []
    for name, said in values.items():
        lines += [f"## {name}", "", said["description"], ""]
        rows = [(f"`{path}`", _type(each), each["description"]) for path, each in _values(name, said, values)]
        lines += _table(("value", "type", "meaning"), rows)
    return "\n".join(lines)


def _chart_schema() -> dict[str, Any]:
    """Return the chart's schema with each definition in the place of the references to it."""
    content: dict[str, Any] = json.loads(CHART_SCHEMA.read_text())

    def resolved(said: Any) -> Any:
        if isinstance(said, list):
            return [resolved(each) for each in said]
        if not isinstance(said, dict):
            return said
        target = content["definitions"][_last(said["$ref"])] if "$ref" in said else {}
        return {name: resolved(each) for name, each in {**target, **said}.items() if name != "$ref"}

    whole: dict[str, Any] = resolved(content)
    return whole


def _values(path: str, said: Mapping[str, Any], top: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each value below this one with its path; `top` are described where they stand at the top."""
    if said.get("type") == "array":
        yield from _values(f"{path}[]", said["items"], top)
    for name, each in said.get("properties", {}).items():
        yield f"{path}.{name}", each
        if name not in top:
            yield from _values(f"{path}.{name}", each, top)


def _type(said: Mapping[str, Any]) -> str:
    """Return what a value can be, in words."""
    if "allOf" in said:
        return next((kind for kind in map(_type, said["allOf"]) if kind != ANY), ANY)
    for several in ("anyOf", "oneOf"):
        if several in said and "type" not in said:
            return " or ".join(dict.fromkeys(_type(each) for each in said[several]))
    if "$ref" in said and "type" not in said:
        name = _last(said["$ref"])
        return f"[{name}](#{name.lower()})"
    if "const" in said:
        return f"`{said['const']}`"
    if "enum" in said:
        return " or ".join(f"`{each}`" for each in said["enum"] if each != "")
    kind = said.get("type", ANY)
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and isinstance(said.get("items"), Mapping):
        return f"list of {_type(said['items'])}"
    if kind == "array":
        return "list"
    if kind == "object" and isinstance(said.get("additionalProperties"), Mapping):
        return f"mapping of names to {_type(said['additionalProperties'])}"
    return {"object": "mapping", "null": "`null`"}.get(kind, str(kind))


def _schema_default(key: str, said: Mapping[str, Any], required: Iterable[str]) -> str:
    if key in required:
        return "required"
    default = said.get("default")
    return "" if default in (None, {}) else f"`{json.dumps(default).strip(chr(34))}`"


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table with an empty one after it; none where there are no rows."""
    lines = [f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *lines, ""] if lines else []


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exit statuses": exit_statuses,
    "settings": settings,
    "team keys": team_keys,
    "job file": job_file,
    "chart values": chart_values,
    "works with": works_with,
}
"""What a page can ask for."""
