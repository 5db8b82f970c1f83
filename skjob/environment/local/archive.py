"""Local distributions as one archive: unpacked into a folder on the import path, they are installed.

Modules stand in it where import looks for them, whichever way they are installed here, and each distribution has its
metadata, so that its version and its entry points are found. Whole packages go, with the data in them. The same content
gives the same bytes: what is unchanged is not sent, nor unpacked, again.
"""

from __future__ import annotations

import io
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skjob.environment.local.distributions import LocalDistribution
from skjob.environment.pod.requirements import python_here

MOST_BYTES = 200 * 2**20
"""Of one distribution, before packing."""

_NOT_SENT = frozenset({"INSTALLER", "RECORD", "REQUESTED", "SOURCES.txt", "direct_url.json", "installed-files.txt"})
"""Of metadata: what tells of the installation here. uv's own files, `uv_…json`, hold its time."""

_COMPILED = re.compile(r"\.(so(\.\d+)*|pyd|dylib)$")
_TAGGED = re.compile(r"(?P<module>[^.]+)(?P<suffix>\.(cpython|pypy|graalpy)[\w-]*\.so)")
_QUICK = 1
_BUILT = frozenset({"build", "dist"})


@dataclass(frozen=True)
class PackedLocal:
    """`content` is a zip file. `sizes` are the bytes of each distribution's files, by its name, before packing.

    `compiled` are the files in it that a running process can't load again in a newer version. `problems` are what is
    wrong, each with what to do; with one of them, the archive lacks something.
    """

    content: bytes
    sizes: dict[str, int]
    compiled: tuple[str, ...]
    problems: tuple[str, ...]


def pack_local(local: Sequence[LocalDistribution], most_bytes: float = MOST_BYTES) -> PackedLocal:
    """The archive of these distributions. `most_bytes` is a limit for each of them."""
    taken: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    generated: dict[str, bytes] = {}
    problems: list[str] = []
    for distribution in local:
        files, size = _measured(_files(distribution), most_bytes)
        if size is None:
            problems.append(
                f"`{distribution.name}`, from {distribution.origin}, is larger than {MOST_BYTES // 2**20} MiB: "
                "keep data out of the package, or bake an image with `skjob env build`"
            )
            continue
        sizes[distribution.name] = size
        problems += _foreign(distribution, files)
        for name, path in files.items():
            if not _is_foreign(name):
                taken.setdefault(name, path)
        folder = _metadata_name(distribution)
        if distribution.metadata.is_dir():
            listed = sorted([*files, f"{folder}/RECORD"])
            generated[f"{folder}/RECORD"] = "".join(f"{_quoted(name)},,\n" for name in listed).encode()
    content, unread = _zipped(taken, generated)
    problems += unread
    compiled = tuple(sorted(name for name in taken if _COMPILED.search(name)))
    return PackedLocal(content, sizes, compiled, tuple(problems))


def _zipped(taken: Mapping[str, Path], generated: Mapping[str, bytes]) -> tuple[bytes, list[str]]:
    """Without times and modes, in the order of names; and what could not be read."""
    unread = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(taken.keys() | generated.keys()):
            try:
                content = generated[name] if name in generated else taken[name].read_bytes()
            except OSError as error:
                unread.append(f"`{taken[name]}` can't be read: {error.strerror}; fix its permissions")
            else:
                target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, _QUICK)
    return buffer.getvalue(), unread


def _quoted(name: str) -> str:
    """A field of a CSV file."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


# ------------------------------------------------------------------------------------------------- which files


def _files(distribution: LocalDistribution) -> Iterator[tuple[str, Path]]:
    """Names in the archive, and the files here. Of those with one name, the first counts."""
    for name, file in distribution.files:
        if _is_sendable(name):
            yield name, file
    for module, place in distribution.sources.modules:
        target = PurePosixPath(*module.split("."))
        if place.is_dir():
            yield from _tree(place, target)
        else:
            yield str(target.parent / place.name), place
    for folder in distribution.sources.folders:
        yield from _importable(folder)
    folder_name = _metadata_name(distribution)
    if distribution.metadata.is_dir():
        for name, file in _tree(distribution.metadata, PurePosixPath(folder_name)):
            if file.name not in _NOT_SENT and not file.name.startswith("uv_"):
                yield name, file
    else:
        yield folder_name, distribution.metadata


def _metadata_name(distribution: LocalDistribution) -> str:
    name = distribution.metadata.name
    return f"{distribution.name.replace('-', '_')}.egg-info" if name == "EGG-INFO" else name


def _importable(root: Path) -> Iterator[tuple[str, Path]]:
    """What import finds in a folder of source, and no more: it may be a whole project, with data and an environment."""
    from skjob.engine.transfer.modules import find_sources  # and with it joblib

    is_project = any((root / mark).exists() for mark in ("pyproject.toml", "setup.py", "setup.cfg"))
    packages: dict[Path, None] = {}
    folders: set[Path] = {Path()}
    for file in find_sources(root).files:
        top = file.parts[0]
        if is_project and (top == "setup.py" or (top in _BUILT and not (root / top / "__init__.py").exists())):
            continue  # not of what is installed
        above = [Path(*file.parts[:depth]) for depth in range(1, len(file.parts))]
        package = next((folder for folder in above if (root / folder / "__init__.py").exists()), None)
        if package is not None:
            packages[package] = None
        elif file.suffix == ".py":
            folders.add(file.parent)
            yield file.as_posix(), root / file
    for folder in folders:  # extension modules beside those in Python
        for path in _entries(root / folder):
            if path.is_file() and _COMPILED.search(path.name):
                yield (folder / path.name).as_posix(), path
    for package in packages:
        yield from _tree(root / package, PurePosixPath(package.as_posix()))


def _tree(
    folder: Path, target: PurePosixPath, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, Path]]:
    """Everything in a package, links followed, without what is hidden or made from the rest."""
    from skjob.engine.transfer.local_code import NOT_SOURCE
    from skjob.engine.transfer.modules import ENVIRONMENT_MARKS

    try:
        status = folder.stat()
    except OSError:
        return
    identity = (status.st_dev, status.st_ino)
    entries = _entries(folder)
    if identity in above or any(path.name in ENVIRONMENT_MARKS for path in entries):
        return
    for path in entries:
        if path.name in NOT_SOURCE or not _is_sendable(path.name):
            continue
        if path.is_dir():
            yield from _tree(path, target / path.name, above | {identity})
        elif path.is_file():
            yield str(target / path.name), path


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_sendable(name: str) -> bool:
    """Not hidden, and with a name that a zip file can have."""
    try:
        name.encode()
    except UnicodeError:
        return False
    return not any(part.startswith(".") for part in name.split("/"))


def _measured(files: Iterable[tuple[str, Path]], most_bytes: float) -> tuple[dict[str, Path], int | None]:
    """The files, and their bytes in all; None as soon as that is too much."""
    found: dict[str, Path] = {}
    size = 0
    for name, path in files:
        if name in found:
            continue
        found[name] = path
        with suppress(OSError):  # reading it will tell
            size += path.stat().st_size
        if size > most_bytes:
            return {}, None
    return found, size


# ------------------------------------------------------------------------------------------------- compiled ones


def _foreign(distribution: LocalDistribution, files: Mapping[str, Path]) -> list[str]:
    """Compiled modules that workers, which run Linux and the same Python, can't load."""
    compiled = [name for name in files if _COMPILED.search(name)]
    if compiled and sys.platform != "linux":
        problem = f"`{distribution.name}` has modules compiled for this system ({compiled[0]}), and workers run Linux"
        return [f"{problem}: publish it to an index that workers reach"]
    lost = [name for name in compiled if _is_foreign(name) and not _has_other_form(name, files)]
    if not lost:
        return []
    problem = f"`{distribution.name}` has modules compiled for another Python ({lost[0]})"
    return [f"{problem}: build it again, for Python {python_here()}"]


def _is_foreign(name: str) -> bool:
    """Compiled for another Python, as its name says."""
    tagged = _TAGGED.fullmatch(PurePosixPath(name).name)
    return tagged is not None and tagged["suffix"] != sysconfig.get_config_var("EXT_SUFFIX")


def _has_other_form(name: str, files: Mapping[str, Path]) -> bool:
    """Whether the same module is there for this Python, or as source."""
    module = name[: len(name) - len(PurePosixPath(name).name)] + PurePosixPath(name).name.partition(".")[0]
    own = sysconfig.get_config_var("EXT_SUFFIX")
    return any(f"{module}{suffix}" in files for suffix in (own, ".abi3.so", ".so", ".py"))
