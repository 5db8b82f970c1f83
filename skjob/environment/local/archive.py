"""Pack local distributions into one archive: unpacked into a folder on the import path, they are installed.

Modules are where import looks for them, however they are installed here, and each distribution has its metadata, so
that its version and its entry points are found. Whole packages are sent, with the data in them. The same content gives
the same bytes: what is unchanged is not sent, nor unpacked, again.
"""

from __future__ import annotations

import io
import re
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skjob.environment.local.distributions import LocalDistribution
from skjob.environment.pod.requirements import python_here
from skjob.utils.operating_system import ON_LINUX

MAX_DISTRIBUTION_BYTES = 200 * 2**20
"""Maximum size of one distribution, before packing."""

_NOT_SENT = frozenset({"INSTALLER", "RECORD", "REQUESTED", "SOURCES.txt", "direct_url.json", "installed-files.txt"})
"""Metadata about the installation here. uv's own files, `uv_…json`, hold its time."""

_COMPILED = re.compile(r"\.(so(\.\d+)*|pyd|dylib)$")
_TAGGED = re.compile(r"(?P<module>[^.]+)(?P<suffix>\.(cpython|pypy|graalpy)[\w-]*\.so)")
_COMPRESSION_LEVEL = 1
_BUILD_FOLDERS = frozenset({"build", "dist"})


@dataclass(frozen=True)
class PackedLocal:
    """The packed distributions: `content` is a zip file, `sizes` are the bytes of their files by name, before packing.

    `compiled` are the files in it that a running process cannot load again in a newer version. `problems` are what is
    wrong, each with what to do; the archive is incomplete if there are any.
    """

    content: bytes
    sizes: dict[str, int]
    compiled: tuple[str, ...]
    problems: tuple[str, ...]


def pack_local(local: Sequence[LocalDistribution], max_bytes: float = MAX_DISTRIBUTION_BYTES) -> PackedLocal:
    """Pack these distributions. `max_bytes` is the limit for each of them."""
    packed: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    generated: dict[str, bytes] = {}
    problems: list[str] = []
    for distribution in local:
        files, size = _measure(_files(distribution), max_bytes)
        if size is None:
            problems.append(
                f"`{distribution.name}`, from {distribution.origin}, is larger than "
                f"{MAX_DISTRIBUTION_BYTES // 2**20} MiB: keep data out of the package, or build an image with "
                "`skjob env build`"
            )
            continue
        sizes[distribution.name] = size
        problems += _foreign(distribution, files)
        for name, path in files.items():
            if not _is_foreign(name):
                packed.setdefault(name, path)
        folder = _metadata_name(distribution)
        if distribution.metadata.is_dir():
            listed = sorted([*files, f"{folder}/RECORD"])
            generated[f"{folder}/RECORD"] = "".join(f"{_quoted(name)},,\n" for name in listed).encode()
    content, unreadable = _zip(packed, generated)
    problems += unreadable
    compiled = tuple(sorted(name for name in packed if _COMPILED.search(name)))
    return PackedLocal(content, sizes, compiled, tuple(problems))


def _zip(packed: Mapping[str, Path], generated: Mapping[str, bytes]) -> tuple[bytes, list[str]]:
    """Write the files without times and modes, in the order of names. Return the archive, and unreadable files."""
    unreadable = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name in sorted(packed.keys() | generated.keys()):
            try:
                content = generated[name] if name in generated else packed[name].read_bytes()
            except OSError as error:
                unreadable.append(f"`{packed[name]}` cannot be read: {error.strerror}; fix its permissions")
            else:
                target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, _COMPRESSION_LEVEL)
    return buffer.getvalue(), unreadable


def _quoted(name: str) -> str:
    """Return a field of a CSV file."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


# ------------------------------------------------------------------------------------------------- which files


def _files(distribution: LocalDistribution) -> Iterator[tuple[str, Path]]:
    """Yield names in the archive, and the files here. The first file of a name counts."""
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
    """Yield only what import finds in a folder of source, which may be a project with data and an environment."""
    from skjob.engine.transfer.modules import find_sources  # and with it joblib

    is_project = any((root / mark).exists() for mark in ("pyproject.toml", "setup.py", "setup.cfg"))
    packages: dict[Path, None] = {}
    folders: set[Path] = {Path()}
    for file in find_sources(root).files:
        top = file.parts[0]
        if is_project and (top == "setup.py" or (top in _BUILD_FOLDERS and not (root / top / "__init__.py").exists())):
            continue  # not installed
        above = [Path(*file.parts[:depth]) for depth in range(1, len(file.parts))]
        package = next((folder for folder in above if (root / folder / "__init__.py").exists()), None)
        if package is not None:
            packages[package] = None
        elif file.suffix == ".py":
            folders.add(file.parent)
            yield file.as_posix(), root / file
    for folder in folders:  # extension modules beside Python modules
        for path in _entries(root / folder):
            if path.is_file() and _COMPILED.search(path.name):
                yield (folder / path.name).as_posix(), path
    for package in packages:
        yield from _tree(root / package, PurePosixPath(package.as_posix()))


def _tree(
    folder: Path, target: PurePosixPath, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, Path]]:
    """Yield everything in a package, following links, without hidden and generated files."""
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
    """Return whether a file is not hidden, and has a name that a zip file can hold."""
    try:
        name.encode()
    except UnicodeError:
        return False
    return not any(part.startswith(".") for part in name.split("/"))


def _measure(files: Iterable[tuple[str, Path]], max_bytes: float) -> tuple[dict[str, Path], int | None]:
    """Return the files and their total size; None as soon as that is too large."""
    measured: dict[str, Path] = {}
    size = 0
    for name, path in files:
        if name in measured:
            continue
        measured[name] = path
        with suppress(OSError):  # reading the file reports it
            size += path.stat().st_size
        if size > max_bytes:
            return {}, None
    return measured, size


# ------------------------------------------------------------------------------------------------- compiled ones


def _foreign(distribution: LocalDistribution, files: Mapping[str, Path]) -> list[str]:
    """Report compiled modules that workers, which run Linux and the same Python, cannot load."""
    compiled = [name for name in files if _COMPILED.search(name)]
    if compiled and not ON_LINUX:
        problem = f"`{distribution.name}` has modules compiled for this system ({compiled[0]}), but workers run Linux"
        return [f"{problem}: publish it on an index that workers can reach"]
    foreign = [name for name in compiled if _is_foreign(name) and not _has_other_form(name, files)]
    if not foreign:
        return []
    problem = f"`{distribution.name}` has modules compiled for another Python ({foreign[0]})"
    return [f"{problem}: rebuild it for Python {python_here()}"]


def _is_foreign(name: str) -> bool:
    """Return whether a module's name says that it is compiled for another Python."""
    tagged = _TAGGED.fullmatch(PurePosixPath(name).name)
    return tagged is not None and tagged["suffix"] != sysconfig.get_config_var("EXT_SUFFIX")


def _has_other_form(name: str, files: Mapping[str, Path]) -> bool:
    """Return whether the same module exists for this Python, or as source."""
    module = name[: len(name) - len(PurePosixPath(name).name)] + PurePosixPath(name).name.partition(".")[0]
    extension = sysconfig.get_config_var("EXT_SUFFIX")
    return any(f"{module}{suffix}" in files for suffix in (extension, ".abi3.so", ".so", ".py"))
