"""The programs in tests/programs: what users write, of the kinds that give other results elsewhere.

Each is a file, or a folder with the modules and files that it needs. Its header, comments before the code, says what it
shows, then from `Source` on how the tests run it and what skjob tells about it. What it prints is not written down
anywhere, as plain Python is run too:

    # A scorer notes each fold in a list of the script's.
    # Source: where users report such a thing
    # Kind: A
    # Told: runs in this process: its tasks change
    # Twice

`Kind` is the letter of docs/explanation/differences.md. `Told` is part of a line that skjob writes, and may be there
several times. `Twice`: it is run a second time in the same folder. `Arguments`, `Stdin` and `Module` say how it is
started, where that is not by `python FILE`. `New python`: plain Python is a process from its start. `Slow`: left to
`make test-all`. `Differs`: the output is another one, and skjob tells so. `Told in pods` is as `Told`, if the workers
are pods.
`Open` says what skjob does not do yet: the test is expected to fail.
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
    """A program, and what its header says."""

    name: str
    main: Path
    """The file that is run, relative to `root`."""
    root: Path
    kind: str
    told: tuple[str, ...]
    told_in_pods: tuple[str, ...]
    """What is told besides if the workers are pods."""
    differs: bool
    open: str
    """What is missing in skjob, so that the test is expected to fail."""
    twice: bool
    arguments: tuple[str, ...]
    stdin: str
    module: str
    new_python: bool
    slow: bool

    def copy_to(self, folder: Path) -> None:
        """Copy its files."""
        if self.root == PROGRAMS:
            shutil.copy(self.root / self.main, folder)
        else:
            shutil.copytree(self.root, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def command(self) -> list[str]:
        """What follows `python` to run it."""
        return ["-m", self.module] if self.module else [str(self.main)]


def user_programs() -> list[UserProgram]:
    """All of them, by name."""
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
        told=tuple(header.get("Told", [])),
        told_in_pods=tuple(header.get("Told in pods", [])),
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
    """What the comments before the code say, by word."""
    header: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        if found := _LINE.fullmatch(line):
            header.setdefault(found[1], []).append(found[2] or "")
        else:
            assert not header, f"{file}: the header has an unknown word: {line}"
    return header
