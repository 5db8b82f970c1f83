"""The code blocks of the documentation, and what can be checked of each without running a cluster.

A comment above a block says what its text does not:

    <!-- given: X, y -->          names that a Python block uses and does not make
    <!-- run -->                  a Python block that is run, and not only looked at
    <!-- not checked: why -->     a block that nothing here can check

Blocks of `text` are pictures, and those in braces are Sphinx's own: it fails where they are wrong.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import re
import shlex
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pandas
import yaml
from typer.main import get_command

from skjob.cli.commands.costs import _moment
from skjob.cli.root import app
from skjob.cli.run_arguments import NOTES
from skjob.config import sources
from skjob.config.namespace_policy import parse_rules
from skjob.config.parsers import parse_seconds
from skjob.deploy.kubernetes.api.rbac import ROLE_NAME
from skjob.engine.events import CallStarted
from skjob.environment.index.pip_config import from_pip, pip_settings
from skjob.environment.index.uv_config import from_uv
from skjob.jobfile.loader import read_job
from skjob.run.events.searches import Searches

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "skjob"
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "examples/README.md")),
    *(ROOT / name for name in ("helm/skjob/README.md", "k8s/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)

PICTURE = "text"
READERS_OWN = ("train.py", "job.yaml", "project.train")
"""Programs that a reader has, and not this repository."""

OTHER_COMMANDS: Mapping[str, tuple[set[str], set[str]]] = {
    "helm": ({"install", "test"}, {"--namespace", "--create-namespace", "--values", "--logs"}),
    "kubectl": ({"apply", "delete"}, {"--server-side", "-k", "-f"}),
}
"""Of programs that are not here: the subcommands and options that pages use. Whoever adds one has looked it up."""

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\S*)\n(?P<text>.*?)^(?P=fence)$", re.M | re.S)
_MARK = re.compile(r"<!-- (run|given|not checked)(?:: (.+))? -->\n$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it."""

    page: Path
    line: int
    language: str
    text: str
    marks: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    """Return every block that is code, of all pages."""
    found = [block for page in PAGES for block in _blocks_of(page)]
    return [block for block in found if block.language != PICTURE and not block.language.startswith("{")]


def _blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        mark = _MARK.search(before)
        marks = {mark[1]: mark[2] or ""} if mark else {}
        yield Block(page, before.count("\n") + 1, fence["language"], fence["text"], marks)


# ---- the command line


def commands(text: str) -> list[list[str]]:
    """Return the words of each command in a console block: of each part where there is a pipe, without redirections."""
    joined = re.sub(r"\\\n\s*", "", text)
    typed = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return [part for line in typed for part in _parts(shlex.split(line, comments=True))]


def _parts(words: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return [part[: next((at for at, word in enumerate(part) if word in (">", "2>")), None)] for part in parts]


def check_command(words: list[str], made: set[str]) -> None:
    """Check one command as far as it goes without running it. `made` are paths that commands before it have made."""
    program, rest = words[0], words[1:]
    if program == "skjob":
        check_skjob(rest)
    elif program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in rest if "=" not in word} <= targets, words
    elif program in OTHER_COMMANDS:
        subcommands, options = OTHER_COMMANDS[program]
        assert rest[0] in subcommands, words
        used = {word for word in rest if word.startswith("-") and word != "-"}
        assert used <= options, words
        for path in (word for word in rest if "/" in word):
            assert path in made or (ROOT / path).exists(), words
    elif program == "cp":
        assert (ROOT / rest[-2]).exists(), words
        made.add(rest[-1])
    elif program in ("python", "pip", "uv") or program.startswith(".venv/bin/"):
        for path in (word for word in rest if "/" in word or word.endswith(".py")):
            assert path in READERS_OWN or (ROOT / path).exists(), words
    elif program == "git":
        assert rest[:2] == ["clone", f"{repository()}.git"], words
    else:
        assert program in ("cd", "source", "sed", "echo"), words


def repository() -> str:
    """Return the address that the project gives for itself."""
    urls: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    return urls["Repository"]


def check_skjob(words: list[str]) -> None:
    """Have the command line read the words, and the settings among them parsed. Nothing is run."""
    given, notes = _read(get_command(app), "skjob", words)
    assert notes == (), notes
    settings = {name: value for name, value in given.items() if isinstance(value, str) and name in _SETTINGS}
    sources.resolve([sources.flags(settings)])
    if given.get("timeout"):
        parse_seconds(given["timeout"])
    if given.get("since"):
        from datetime import UTC, datetime

        _moment(given["since"], datetime.now(UTC))
    program = given.get("program")
    if program is not None:
        assert str(program) in READERS_OWN or (ROOT / program).is_file(), words


_SETTINGS = {*sources._NAMES, *sources._ELSEWHERE_CALLED}


def _read(command: Any, name: str, words: list[str], parent: Any = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    with command.make_context(name, list(words), parent=parent) as context:
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if hasattr(command, "resolve_command") and rest:
            word, subcommand, left = command.resolve_command(context, rest)
            return _read(subcommand, word, left, context)
        return context.params, tuple(context.meta.get(NOTES, ()))


# ---- Python


def check_python(block: Block) -> None:
    """Compile it; all that it imports is there, calls of it take their arguments, and no name comes from nowhere."""
    tree = ast.parse(block.text)
    given = {name.strip() for name in block.marks.get("given", "").split(",")}
    names = _imported(tree)
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    known = {*given, *names, *stored, *vars(builtins), "__name__"}
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert loaded <= known, f"{block}: {loaded - known} come from nowhere"
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = _resolve(call.func, names)
        if called is not None and not any(isinstance(each, ast.Starred) for each in call.args):
            keywords = {each.arg: None for each in call.keywords if each.arg}
            inspect.signature(called).bind(*call.args, **keywords)


def _imported(tree: ast.AST) -> dict[str, Any]:
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what others' packages say as they are imported
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    module = importlib.import_module(each.name)
                    top = each.name.partition(".")[0]
                    names[each.asname or top] = module if each.asname else importlib.import_module(top)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                names |= {each.asname or each.name: getattr(module, each.name) for each in node.names}
    return names


def _resolve(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (owner := _resolve(node.value, names)) is not None:
        return getattr(owner, node.attr)
    return None


def run_python(block: Block) -> None:
    """Run it in this process, its calls of joblib one after the other."""
    with joblib.parallel_config(backend="sequential"):
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})  # noqa: S102 - a page of ours


# ---- files


def check_yaml(block: Block, folder: Path) -> None:
    """Check what a block of YAML holds: job, chart values, ConfigMap data, a manifest, a workflow or a pipeline."""
    content = yaml.safe_load(block.text)
    if "estimator" in content:
        _check_job(block.text, content, folder)
    elif "jobs" in content:
        for step in (step for job in content["jobs"].values() for step in job["steps"] if "run" in step):
            for words in commands(f"$ {step['run']}"):
                check_command(words, set())
    elif "stages" in content:  # of DVC
        for stage in content["stages"].values():
            for words in commands(f"$ {stage['cmd']}"):
                check_command(words, set())
    elif content.get("kind") == "RoleBinding":
        assert (content["roleRef"]["kind"], content["roleRef"]["name"]) == ("Role", ROLE_NAME)
    elif "operator" in content or "teams" in content:
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        schema = json.loads((CHART / "values.schema.json").read_text())
        assert list(_problems(_merged(values, content), schema, schema["definitions"])) == []
    else:
        assert set(content) & set(sources.TEAM_KEYS), f"{block}: what is it?"
        data = {name: str(value) for name, value in content.items()}
        sources.resolve([sources.cluster_defaults(data, "page")])
        parse_rules(data, "page")
        assert set(content) <= {*sources.TEAM_KEYS, *(name.replace("_", "-") for name in _SETTINGS)}


def _check_job(text: str, content: dict[str, Any], folder: Path) -> None:
    """As `skjob run` reads it, with a small table in the place of the one that it names."""
    data = content["data"]
    if "path" in data:
        table = folder / "table.parquet"
        pandas.DataFrame({"x": [0.0, 1.0], data["target"]: [0, 1]}).to_parquet(table)
        text = text.replace(data["path"], table.name)
    file = folder / "job.yaml"
    file.write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the estimator's package, as it is imported
        read_job(file)


def _merged(values: Any, given: Any) -> Any:
    if not (isinstance(values, dict) and isinstance(given, dict)):
        return given
    return values | {name: _merged(values.get(name), value) for name, value in given.items()}


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def _problems(value: Any, schema: Mapping[str, Any], named: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield what a JSON Schema has against a value: the keywords that the chart's schema has."""
    if "$ref" in schema:
        schema = {**named[schema["$ref"].rpartition("/")[2]], **schema}
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, named, path)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _KINDS[kind]) for kind in kinds):
        yield f"{path}: `{value}` is no {' or '.join(kinds)}"
        return
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path}: `{value}` does not match"
    if value not in schema.get("enum", [value]):
        yield f"{path}: `{value}` is none of {schema['enum']}"
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{path}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, each in value.items():
            if name in properties:
                yield from _problems(each, properties[name], named, f"{path}.{name}")
            elif others is False:
                yield f"{path}.{name} is not known"
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _problems(each, schema.get("items", {}), named, f"{path}[{number}]")


def check_toml(block: Block, folder: Path) -> None:
    """Check settings of skjob's in either of their files, or of uv's index."""
    content = tomllib.loads(block.text)
    file = folder / ("pyproject.toml" if "tool" in content else "skjob.toml")
    file.write_text(block.text)
    if "uv" in content.get("tool", {}):
        problems: list[str] = []
        assert from_uv({}, [file], problems).indexes
        assert problems == []
        return
    layer = sources.project(folder)
    assert layer.values
    sources.resolve([layer])


def check_json(block: Block) -> None:
    """Check the summary of a search in a run's record."""
    search = CallStarted(1, 0.0, "GridSearchCV", search=1)
    assert json.loads(block.text).keys() == Searches([search]).summary()[0].keys()


def check_ini(block: Block, folder: Path) -> None:
    """Check a `pip.conf`."""
    file, problems = folder / "pip.conf", list[str]()
    file.write_text(block.text)
    assert from_pip(pip_settings({}, [file], problems)).indexes
    assert problems == []
