"""Read the text of a job file with the mark of every key and value: the first of three passes over it.

The text is read as `yaml.safe_load` reads it, so that reading runs no code. The node marks give each key and value its
line and column, from which a problem is reported as `job.yaml:12:5: ...`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from skjob.errors import ConfigError

Location: TypeAlias = tuple[Any, ...]
"""Keys and indices from the top of a job file to a value of it."""

SCHEMA_HINT = "`skjob schema` prints every key of a job file"


@dataclass(frozen=True, order=True)
class Mark:
    """A line and a column, both counted from 1."""

    line: int
    column: int

    @classmethod
    def of(cls, mark: Any) -> Mark:
        """Convert PyYAML's mark, which counts from 0."""
        return cls(mark.line + 1, mark.column + 1)


@dataclass
class Document:
    """The content of a job file, where its keys and values are, and what is wrong with its text."""

    content: Any = None
    keys: dict[Location, Mark] = field(default_factory=dict)
    values: dict[Location, Mark] = field(default_factory=dict)
    problems: list[tuple[Mark, Location, str]] = field(default_factory=list)
    walked: set[int] = field(default_factory=set)

    def key(self, location: Location) -> Mark:
        """Return the mark of a key; if there is none, that of the key which would contain it."""
        while location and location not in self.keys:
            location = location[:-1]
        return self.keys.get(location, Mark(1, 1))

    def value(self, location: Location) -> Mark:
        """Return the mark at which a value begins; if there is none, that of its key."""
        return self.values.get(location) or self.key(location)


class _Loader(yaml.SafeLoader):
    """SafeLoader that also reads `1e-3` as a number: in YAML 1.1 it is a text, and a grid would hold texts."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_text(path: Path) -> Document:
    """Read and parse a job file. Raise ConfigError if it is not readable text, or not YAML."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"`{path}` does not exist") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{path}` is not UTF-8 text: byte {error.start} cannot be read") from error
    except OSError as error:
        raise ConfigError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from error
    try:
        return _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = Mark.of(error.problem_mark or error.context_mark) if error.problem_mark else Mark(1, 1)
        raise ConfigError(f"{path}:{mark.line}:{mark.column}: {_describe_yaml_error(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{path}:{line}:{column}: character `\\x{error.character:02x}` is not allowed") from error
    except RecursionError as error:
        raise ConfigError(f"{path}:1:1: is nested too deeply, or contains itself") from error
    except ValueError as error:
        # A scalar that looks like a date or a number but is none: `2024-13-45`.
        raise ConfigError(f"{path}:1:1: a value cannot be read: {error}") from error


def _parse(text: str) -> Document:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        document = Document()
        if node is not None:
            _record_marks(loader, node, (), document)
            document.content = loader.construct_document(node)
        return document
    finally:
        loader.dispose()


def _record_marks(loader: _Loader, node: yaml.Node, location: Location, document: Document) -> None:
    # A node with several aliases has the mark of the place where it is written.
    document.values[location] = Mark.of(node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, member in enumerate(node.value):
            document.keys[(*location, index)] = Mark.of(member.start_mark)
            _record_marks(loader, member, (*location, index), document)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[Any, Mark] = {}
        # An alias leads here again, to a node that is flattened and checked already.
        for key_node, _ in node.value if id(node) not in document.walked else ():
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            key, mark = loader.construct_object(key_node), Mark.of(key_node.start_mark)
            if key in seen:
                message = f"`{key}` is given twice, first in line {seen[key].line}"
                document.problems.append((mark, (*location, key), message))
            seen.setdefault(key, mark)
        document.walked.add(id(node))
        # Only now: this puts the keys of `<<` in front, and the mapping's own keys may repeat them.
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key = loader.construct_object(key_node)
                document.keys[(*location, key)] = Mark.of(key_node.start_mark)
                _record_marks(loader, value_node, (*location, key), document)


def _describe_yaml_error(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be read"
    if tag := re.search(r"could not determine a constructor for the tag '(.*)'", problem):
        short = tag[1].replace("tag:yaml.org,2002:", "!!")
        return f"`{short}` is not allowed: a job file holds plain values"
    if "found character '\\t'" in problem:
        return "a tab cannot indent: use spaces"
    if "mapping values are not allowed here" in problem:
        return "a second `:` in one line, or a wrong indentation"
    if "expected a single document" in (error.context or ""):
        return "a second document begins here: a job file is one"
    where = f" ({error.context})" if error.context else ""
    return f"is not valid YAML: {problem}{where}"


@dataclass
class Diagnostics:
    """Collects the problems of a job file, each with its place."""

    path: Path
    document: Document
    problems: list[tuple[Mark, str]] = field(default_factory=list)

    def at(self, mark: Mark, location: Location, message: str) -> None:
        """Report a problem at a mark."""
        where = format_location(location)
        line = f"{self.path}:{mark.line}:{mark.column}: {f'{where}: ' if where else ''}{message}"
        if (mark, line) not in self.problems:
            self.problems.append((mark, line))

    def at_key(self, location: Location, message: str) -> None:
        """Report a problem of a key."""
        self.at(self.document.key(location), location, message)

    def at_value(self, location: Location, message: str) -> None:
        """Report a problem of a value."""
        self.at(self.document.value(location), location, message)

    def raise_if_any(self) -> None:
        """Raise ConfigError with all problems, in the order of the file."""
        if self.problems:
            ordered = sorted(self.problems, key=lambda problem: problem[0])
            raise ConfigError.collect([line for _, line in ordered], SCHEMA_HINT)


def format_location(location: Location) -> str:
    """Return a location as a message names it: `data.features[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def format_value(value: Any) -> str:
    """Return a value as a message names it."""
    if value is None:
        return "an empty value"
    if isinstance(value, str):
        return f"`{value}`"
    try:
        text = json.dumps(value, default=str)
    except (TypeError, ValueError):
        text = str(value)
    if len(text) <= 40:
        return f"`{text}`"
    return "this list" if isinstance(value, list) else "this mapping"
