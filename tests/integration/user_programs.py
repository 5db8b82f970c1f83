"""The programs in tests/programs: programs as users write them, whose results depend on where their tasks run.

Each is a file, or a folder with the modules and files that it needs. The comments at its beginning say what it shows,
and from `Source` on how the tests run it and which messages skjob writes. Its expected output is that of plain Python:

    # A scorer notes each fold in a list of the script's.
    # Source: where users report such a thing
    # Kind: A
    # Told: runs in this process: its tasks change
    # Twice

`Kind` is a letter of docs/explanation/differences.md. `Told` is part of a line that skjob writes, and may occur several
times; `Told in pods` is one that skjob writes only if workers are pods. `Twice`: it is run twice in the same folder.
`Arguments`, `Stdin` and `Module` say how it is started, if not by `python FILE`. `New python`: plain Python starts a
new process instead of a fork. `Slow`: only in `make test-all`. `Differs`: the output differs, and skjob reports that.
`Open` says what skjob does not support yet: the test is expected to fail.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parents[1] / "programs"
_KNOWN = (
    "Kind",
    "Told",
    "Told in pods",
    "Differs",
    "Open",
    "Twice",
    "Arguments",
    "Stdin",
    "Module",
    "New python",
    "Slow",
    "Source",
)
_LINE = re.compile(rf"# ({'|'.join(_KNOWN)})(?:: (.*))?")


@dataclass(frozen=True)
class UserProgram:
    """A program with the contents of its header."""

    name: str
    main: Path
    """The file to run, relative to `root`."""
    root: Path
    kind: str
    messages: tuple[str, ...]
    messages_in_pods: tuple[str, ...]
    """Additional messages if workers are pods."""
    differs: bool
    open: str
    """A missing feature of skjob, for which the test is expected to fail."""
    twice: bool
    arguments: tuple[str, ...]
    stdin: str
    module: str
    new_python: bool
    slow: bool

    def copy_to(self, folder: Path) -> None:
        """Copy the program's files."""
        if self.root == PROGRAMS:
            shutil.copy(self.root / self.main, folder)
        else:
            shutil.copytree(self.root, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def command(self) -> list[str]:
        """The arguments of `python` that run it."""
        return ["-m", self.module] if self.module else [str(self.main)]


def user_programs() -> list[UserProgram]:
    """Return all programs, sorted by name."""
    return [_read(path) for path in sorted(PROGRAMS.iterdir()) if path.suffix == ".py" or _mains(path)]


def _mains(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "Kind" in _header(path)]


def _read(path: Path) -> UserProgram:
    if path.is_dir():
        [file] = _mains(path)
        root = path
    else:
        file, root = path, PROGRAMS
    header = _header(file)
    assert {"Kind", "Source"} <= header.keys(), f"{file}: the header names no kind or no source"

    def one(word: str) -> str:
        return header.get(word, [""])[0]

    return UserProgram(
        name=path.stem,
        main=file.relative_to(root),
        root=root,
        kind=one("Kind"),
        messages=tuple(header.get("Told", [])),
        messages_in_pods=tuple(header.get("Told in pods", [])),
        differs="Differs" in header,
        open=one("Open"),
        twice="Twice" in header,
        arguments=tuple(one("Arguments").split()),
        stdin=one("Stdin") + "\n" if "Stdin" in header else "",
        module=one("Module"),
        new_python="New python" in header,
        slow="Slow" in header,
    )


def _header(file: Path) -> dict[str, list[str]]:
    """Return the values in the comments before the code, by word."""
    header: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if match := _LINE.fullmatch(line):
            header.setdefault(match[1], []).append(match[2] or "")
        else:
            assert not header, f"{file}: the header has an unknown word: {line}"
    return header
