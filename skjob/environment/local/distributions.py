"""Scan the environment of this interpreter: what workers must have so that a program runs there as it runs here.

Every distribution is listed with its exact version. A published one needs no more, for an index has it; one installed
from elsewhere (editable, a folder, an archive, a repository: PEP 610) is listed with its files, which
`skjob.environment.local.archive` packs. skjob itself, distributions that only its client side needs, and installers are
left out. Nothing is imported, and metadata is read only up to its headers: this runs at the start of every run.
"""

from __future__ import annotations

import csv
import json
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from skjob.engine.transfer.editable import EditableSources, resolve_editable
from skjob.environment.pod.requirements import normalized, python_here

ENGINE = ("cloudpickle", "dask", "distributed", "joblib", "numpy", "scikit-learn", "threadpoolctl")
"""Distributions that a worker consists of. They are there before anything is sent to it, so an index must have them."""

WORKER_SIDE = frozenset({*ENGINE, "fsspec", "packaging", "pandas", "pyarrow", "pyyaml"})
"""Requirements of skjob that its own code imports on workers, or that programs are likely to import."""

INSTALLERS = frozenset(
    {
        "conda", "conda-libmamba-solver", "conda-package-handling", "conda-package-streaming", "libmambapy", "menuinst",
        "pip", "setuptools", "uv", "wheel",
    }
)  # fmt: skip

SKJOB_ITSELF = "skjob itself travels with each run"
CLIENT_SIDE = "needed by skjob only, not on workers"
INSTALLER = "an installer"
REMAINDER = "leftover metadata of a distribution that is no longer installed"


@dataclass(frozen=True)
class LocalDistribution:
    """A distribution that no index has.

    `kind` is "editable", "folder", "archive", "vcs", or "path" if it is on the import path without a record. `origin`
    is a path or an address without credentials, for people. Its files are those of `sources`, which import finds
    outside the folders of installed packages, and `files`, by name relative to such a folder. `metadata` is its
    .dist-info or .egg-info.
    """

    name: str
    version: str
    kind: str
    origin: str
    metadata: Path
    sources: EditableSources = field(default_factory=EditableSources)
    files: tuple[tuple[str, Path], ...] = ()


@dataclass(frozen=True)
class InstalledEnvironment:
    """What workers must have, by normalized name.

    `python` is a minor version, `3.11`; `tool` made the environment, for people: "venv", "uv", "conda", "poetry" or
    "system". `engine` are those of `pins` that a worker consists of, with their dependencies. `left_out` gives the
    reason for each distribution that is not sent. `problems` are what cannot be rebuilt on workers, each with what to
    do; `image_problems` are those of them that an image has too.
    """

    python: str
    tool: str
    pins: dict[str, str]
    local: tuple[LocalDistribution, ...] = ()
    engine: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    image_problems: tuple[str, ...] = ()


def scan_environment(imported: Collection[str] = ()) -> InstalledEnvironment:
    """Return the environment of this interpreter. `imported` are top-level modules that the program imports.

    Distributions that pip or uv has recorded as requested are sent even if skjob needs them too.
    """
    installed: dict[str, _Distribution] = {}
    for each in metadata.distributions():
        distribution = _Distribution.read(each)
        if distribution is not None:
            installed.setdefault(distribution.name, distribution)  # the first counts, as it does for import

    left_out = {name: REMAINDER for name, distribution in installed.items() if distribution.is_remainder}
    for name in left_out:
        del installed[name]
    left_out |= _not_needed(installed, imported)
    pins: dict[str, str] = {}
    local: list[LocalDistribution] = []
    unusable: list[str] = []
    for name in sorted(installed.keys() - left_out.keys()):
        distribution = installed[name]
        kind = distribution.kind
        if kind is None:
            pins[name] = distribution.version
        else:
            each_local, wrong = _local(distribution, kind)
            local.append(each_local)
            unusable += wrong
    unusable += [
        f"`{name}` has no metadata here, but workers need it: install it with `uv pip install {name}`"
        for name in ENGINE
        if name not in installed
    ]
    unsendable = [
        f"`{each.name}` is installed from {each.origin}, but workers need it before anything can be sent to them: "
        "install a published version, or build an image with `skjob env build`"
        for each in local
        if each.name in ENGINE
    ]
    engine = _closure(installed, _plain(ENGINE))
    return InstalledEnvironment(
        python=python_here(),
        tool=_environment_tool(installed.get("joblib")),
        pins=pins,
        local=tuple(local),
        engine={name: version for name, version in pins.items() if name in engine},
        left_out=dict(sorted(left_out.items())),
        problems=(*unsendable, *unusable),
        image_problems=tuple(unusable),
    )


def _not_needed(installed: Mapping[str, _Distribution], imported: Collection[str]) -> dict[str, str]:
    """Return the distributions that are not sent, with the reasons."""
    skjob = installed.get("skjob")
    requirements = skjob.needs(frozenset()) if skjob else []
    client_side = _closure(installed, [each for each in requirements if each.name not in WORKER_SIDE])
    # After an installation from a lock, every distribution counts as requested, and the records mean nothing.
    recorded = not all(installed[name].is_requested for name in client_side)
    requested = {
        name
        for name in client_side
        if (recorded and installed[name].is_requested) or installed[name].provides(imported)
    }
    needed = _closure(
        installed, _plain((installed.keys() - client_side - INSTALLERS - {"skjob"}) | requested | set(ENGINE))
    )
    left_out = dict.fromkeys(client_side - needed, CLIENT_SIDE)
    left_out |= dict.fromkeys(INSTALLERS & installed.keys() - needed, INSTALLER)
    return left_out | ({"skjob": SKJOB_ITSELF} if skjob else {})


@dataclass(frozen=True)
class _Requirement:
    name: str
    extras: frozenset[str] = frozenset()


def _plain(names: Iterable[str]) -> list[_Requirement]:
    return [_Requirement(name) for name in names]


def _closure(installed: Mapping[str, _Distribution], required: Iterable[_Requirement]) -> set[str]:
    """Return the installed distributions of these names, and all that they require."""
    pending = list(required)
    seen: set[_Requirement] = set()
    while pending:
        item = pending.pop()
        if item in seen or item.name not in installed or item.name == "skjob":
            continue
        seen.add(item)
        pending += installed[item.name].needs(item.extras)
    return {item.name for item in seen}


@cache
def _marker_variables() -> dict[str, str]:
    """Return the variables of markers, looked up once: otherwise each evaluation would query the operating system."""
    from packaging.markers import default_environment

    return {**default_environment(), "extra": ""}  # type: ignore[dict-item]


class _Distribution:
    """An installed distribution: the headers of its metadata, and the rest on demand."""

    def __init__(self, distribution: metadata.Distribution, info: Path, headers: Mapping[str, list[str]]) -> None:
        self._distribution = distribution
        self.info = info
        stem = info.name.removesuffix(".dist-info").removesuffix(".egg-info")
        named, _, version = stem.partition("-")
        if info.name == "EGG-INFO":  # in example-1.0-py3.11.egg
            named, version = [*info.parent.name.split("-"), ""][:2]
        self.name = normalized(next(iter(headers["name"]), named))
        self.version = next(iter(headers["version"]), version)
        self._lines = headers["requires-dist"]
        self.is_remainder = not headers["name"] and not (info / "RECORD").exists()

    @classmethod
    def read(cls, distribution: metadata.Distribution) -> _Distribution | None:
        """Return None if there is no folder of metadata: a zip file, or a custom finder."""
        info = getattr(distribution, "_path", None)  # importlib.metadata has no public way to the folder
        if not isinstance(info, Path) or info.name.startswith("~"):  # pip's leftovers of a failed removal
            return None
        headers = _headers(info)
        read = cls(distribution, info, headers)
        return read if read.name else None

    def needs(self, extras: frozenset[str]) -> list[_Requirement]:
        """Return what the distribution requires on this machine."""
        lines = self._lines if self.info.name.endswith(".dist-info") else self._distribution.requires or ()
        required = []
        for line in lines:
            marker = line.partition(";")[2]
            if not extras and "extra" in marker and "==" in marker and " or " not in marker:
                continue  # most lines of most distributions, and parsing takes its time
            try:
                requirement = Requirement(line)
            except InvalidRequirement:
                continue  # older than the standard
            variables = [{**_marker_variables(), "extra": extra} for extra in extras] or [_marker_variables()]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in variables):
                required.append(_Requirement(normalized(requirement.name), frozenset(requirement.extras)))
        return required

    @cached_property
    def is_requested(self) -> bool:
        """Whether it was requested by name, and not only installed as a dependency (PEP 376)."""
        return (self.info / "REQUESTED").exists()

    @cached_property
    def site(self) -> Path:
        """The folder of installed packages, or of source, that contains it."""
        return self.info.parent

    @cached_property
    def record(self) -> tuple[str, ...]:
        """Its installed files, relative to `site`."""
        text = self._distribution.read_text("RECORD")
        if text is None:
            return tuple(str(file) for file in self._distribution.files or ())
        return tuple(row[0] for row in csv.reader(text.splitlines()) if row)

    def provides(self, modules: Collection[str]) -> bool:
        """Return whether one of these top-level modules belongs to this distribution."""
        return bool(modules) and any(file.partition("/")[0].partition(".")[0] in modules for file in self.record)

    @cached_property
    def _direct_url(self) -> dict[str, object]:
        try:
            direct = json.loads((self.info / "direct_url.json").read_bytes())
            urlsplit(direct["url"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}
        return dict(direct) if isinstance(direct, dict) else {}

    @cached_property
    def folder(self) -> Path | None:
        """The file or folder it was installed from, on this machine or on another."""
        url = urlsplit(str(self._direct_url.get("url", "")))
        return Path(unquote(url.path)) if url.scheme == "file" else None

    @cached_property
    def kind(self) -> str | None:
        """The kind as in `LocalDistribution`; None if an index has it."""
        direct = self._direct_url
        if direct:
            dir_info = direct.get("dir_info")
            if isinstance(dir_info, dict) and dir_info.get("editable"):
                return "editable"
            if "vcs_info" in direct:
                return "vcs"
            if self.folder is None or not self._is_of_conda:
                return "folder" if "dir_info" in direct else "archive"
        elif _is_of_source(self.info) or not _is_version(self.version):
            return "path"
        return None

    @property
    def _is_of_conda(self) -> bool:
        """Whether conda installed it; its packages name a folder of the machine on which they were built."""
        if (self._distribution.read_text("INSTALLER") or "").strip() == "conda":
            return True
        return _has_conda() and self.folder is not None and not self.folder.exists()

    @cached_property
    def origin(self) -> str:
        """The origin without credentials, for people and records."""
        if not self._direct_url:
            return str(self.site)
        url = urlsplit(str(self._direct_url["url"]))
        if url.scheme == "file" and "vcs_info" not in self._direct_url:
            return unquote(url.path)
        plain = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
        vcs = self._direct_url.get("vcs_info")
        commit = str(vcs.get("commit_id", ""))[:12] if isinstance(vcs, dict) else ""
        return f"{plain}@{commit}" if commit else plain


def _headers(info: Path) -> dict[str, list[str]]:
    """Return the headers that matter by lower-case name; the email parser would take ten times as long."""
    headers: dict[str, list[str]] = {"name": [], "version": [], "requires-dist": []}
    candidates = [info] if info.is_file() else [info / "METADATA", info / "PKG-INFO"]
    for file in candidates:
        try:
            content = file.read_bytes()
        except OSError:
            continue
        for line in content.replace(b"\r\n", b"\n").partition(b"\n\n")[0].split(b"\n"):
            key, colon, value = line.partition(b":")
            values = headers.get(key.decode("latin-1").lower())
            if colon and values is not None and value.strip():
                values.append(value.strip().decode("utf-8", "replace"))
        break
    return headers


def _is_of_source(info: Path) -> bool:
    """Return whether metadata is beside source, as `setup.py develop` leaves it, and not in installed packages."""
    if info.name.endswith(".dist-info"):
        return not (info / "RECORD").exists() and not _is_site(info.parent)
    return not _is_site(info.parent)


def _is_site(folder: Path) -> bool:
    return folder.name in ("site-packages", "dist-packages") or str(folder) in _sites()


@cache
def _sites() -> frozenset[str]:
    return frozenset(sysconfig.get_path(name) for name in ("purelib", "platlib"))


@cache
def _has_conda() -> bool:
    return (Path(sys.prefix) / "conda-meta").is_dir()


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _local(distribution: _Distribution, kind: str) -> tuple[LocalDistribution, list[str]]:
    """Return a distribution with its files, and what is wrong with them."""
    name, site = distribution.name, distribution.site
    sources, problems = EditableSources(), []
    installed: Iterable[str] = distribution.record
    if kind == "path" and not _is_site(site):
        sources, installed = EditableSources(folders=(site,)), ()
    elif kind == "editable":
        install = resolve_editable(site, distribution.record)
        sources = install.sources
        installed = [file for file in distribution.record if file not in install.hooks]
        if install.missing:
            paths = ", ".join(f"`{path}`" for path in install.missing)
            problems.append(
                f"`{name}` is installed in editable mode from {paths}, which does not exist: install it again, "
                f"or remove it with `uv pip uninstall {name}`"
            )
        if install.unknown and not sources:
            problems.append(
                f"`{name}` is installed in editable mode by a build backend that skjob cannot follow "
                f"(`{install.unknown[0]}`): install it without `--editable`"
            )
    files = tuple(_installed_files(distribution, installed))
    if not sources and not files and not problems:
        problems.append(f"`{name}`, from {distribution.origin}, has no record of its files: install it again")
    return LocalDistribution(
        name, distribution.version, kind, distribution.origin, distribution.info, sources, files
    ), problems


def _installed_files(distribution: _Distribution, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the installed files without commands, byte code, and metadata, which is added separately."""
    for name in names:
        parts = Path(name).parts
        outside = Path(name).is_absolute() or ".." in parts
        if not outside and "__pycache__" not in parts and parts[0] != distribution.info.name:
            yield name, distribution.site / name


def _environment_tool(engine: _Distribution | None) -> str:
    """Return the tool that made this environment, by the marks it leaves."""
    if _has_conda():
        return "conda"
    prefix = Path(sys.prefix)
    installer = (engine and engine._distribution.read_text("INSTALLER")) or ""
    if "pypoetry" in prefix.parts or installer.lower().startswith("poetry"):
        return "poetry"
    try:
        config = (prefix / "pyvenv.cfg").read_text(encoding="utf-8")
    except OSError:
        return "system"
    return "uv" if any(line.startswith("uv =") for line in config.splitlines()) else "venv"
