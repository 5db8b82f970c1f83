"""An installed folder as archives, one a distribution: what the keeper serves, and `on_import` unpacks.

The metadata of all of them, and what belongs to none, makes an archive of its own. Which file is whose says RECORD, as
installers write it; compiled files, which it does not name, go with their sources.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path, PurePosixPath

from skjob.environment.pod.lazy_import import INDEX_FILE, METADATA_ARCHIVE
from skjob.environment.pod.requirements import normalized

OPENMP = "libgomp.so.1"
WITHOUT_OPENMP = frozenset({"lightgbm"})
"""Distributions whose wheels need it and don't bring it; slim images have none."""

_LEVEL = 1
_AT_ONCE = 2


def pack(site: Path, folder: Path) -> dict[str, int]:
    """Pack everything in `site` into archives in `folder`; their bytes, by name."""
    distributions = {normalized(each.metadata["Name"]): each for each in metadata.distributions(path=[str(site)])}
    owners = {
        PurePosixPath(file).as_posix(): name
        for name, distribution in distributions.items()
        for file in distribution.files or ()
        if not file.parts[0].endswith(".dist-info")
    }
    _add_openmp(site, distributions)
    files: dict[str, list[Path]] = defaultdict(list)
    holders: dict[str, set[str]] = defaultdict(set)
    for file in sorted(path for path in site.rglob("*") if not path.is_dir()):
        relative = file.relative_to(site)
        name = owners.get(_source(relative).as_posix(), METADATA_ARCHIVE)
        files[name].append(file)
        if name != METADATA_ARCHIVE:
            holders[_module(relative)].add(name)
    index = {
        "holders": {module: sorted(names) for module, names in holders.items()},
        "requires": {name: _requires(each, distributions) for name, each in distributions.items()},
    }
    (site / INDEX_FILE).write_text(json.dumps(index, sort_keys=True), encoding="utf-8")
    files[METADATA_ARCHIVE].append(site / INDEX_FILE)
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # compressing is done beside Python's lock
        packing = {name: pool.submit(_write, site, chosen, folder / name) for name, chosen in files.items()}
        return {name: size.result() for name, size in packing.items()}


def _source(file: Path) -> Path:
    """Of a compiled file: `a/__pycache__/b.cpython-311.pyc` is compiled from `a/b.py`."""
    if file.suffix == ".pyc" and file.parent.name == "__pycache__":
        return file.parent.parent / f"{file.name.partition('.')[0]}.py"
    return file


def _module(file: Path) -> str:
    """The top-level module that a file is part of."""
    return (_source(file).parts[0] if len(file.parts) == 1 else file.parts[0]).partition(".")[0]


def _requires(distribution: metadata.Distribution, known: Iterable[str]) -> list[str]:
    """Those of the known distributions that this one can't do without. Which platform they are for is not looked at."""
    there = set(known)
    found = set()
    for line in distribution.requires or ():
        requirement, _, marker = line.partition(";")
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
        if match and "extra" not in marker:
            found.add(normalized(match[1]))
    return sorted(found & there)


def _add_openmp(site: Path, distributions: Iterable[str]) -> None:
    """Give LightGBM the OpenMP runtime that scikit-learn brings, under the name by which it looks for it.

    LightGBM's wheel has none and expects the system's, which slim images lack (LightGBM 4.7): there, `import lightgbm`
    ends with "libgomp.so.1: cannot open shared object file". The pods' loader looks into the folder that this is in.
    No longer needed when that import works in `python:3.11-slim` after nothing but `pip install lightgbm`.
    """
    if WITHOUT_OPENMP.isdisjoint(distributions):
        return
    places = [site, *(Path(str(each.locate_file(""))) for each in metadata.distributions(name="scikit-learn"))]
    libraries = (file for place in places for file in sorted((place / "scikit_learn.libs").glob("libgomp-*.so*")))
    if (library := next(libraries, None)) is not None:
        shutil.copyfile(library, site / OPENMP)


def _write(site: Path, files: Iterable[Path], archive: Path) -> int:
    with (
        archive.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=2**20) as target,
    ):
        for each in files:
            target.add(each, each.relative_to(site).as_posix())
    return archive.stat().st_size
