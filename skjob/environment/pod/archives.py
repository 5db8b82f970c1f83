"""Pack an installed folder into one archive for each distribution, which pods get from the package server.

The metadata of all distributions, and files that belong to none, make an archive of their own. RECORD, as installers
write it, names the files of each distribution; compiled files, which it does not name, go with their sources.
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
"""Distributions whose wheels need OpenMP and do not bring it; slim images have none."""

_COMPRESSION_LEVEL = 1
_CONCURRENCY = 2


def pack_distributions(site: Path, folder: Path) -> dict[str, int]:
    """Pack everything in `site` into archives in `folder`. Return their sizes by name."""
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
    with ThreadPoolExecutor(_CONCURRENCY) as pool:  # compression releases Python's lock
        packing = {name: pool.submit(_write, site, chosen, folder / name) for name, chosen in files.items()}
        return {name: size.result() for name, size in packing.items()}


def _source(file: Path) -> Path:
    """Return the source of a compiled file: `a/b.py` for `a/__pycache__/b.cpython-311.pyc`."""
    if file.suffix == ".pyc" and file.parent.name == "__pycache__":
        return file.parent.parent / f"{file.name.partition('.')[0]}.py"
    return file


def _module(file: Path) -> str:
    """Return the top-level module that a file is part of."""
    return (_source(file).parts[0] if len(file.parts) == 1 else file.parts[0]).partition(".")[0]


def _requires(distribution: metadata.Distribution, known: Iterable[str]) -> list[str]:
    """Return the known distributions that this one requires, on whatever platform."""
    known_names = set(known)
    required = set()
    for line in distribution.requires or ():
        requirement, _, marker = line.partition(";")
        match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
        if match and "extra" not in marker:
            required.add(normalized(match[1]))
    return sorted(required & known_names)


def _add_openmp(site: Path, distributions: Iterable[str]) -> None:
    """Give LightGBM the OpenMP runtime that scikit-learn brings, under the name by which it is looked up.

    LightGBM's wheel has none and expects the system's, which slim images lack (LightGBM 4.7): there, `import lightgbm`
    fails with "libgomp.so.1: cannot open shared object file". The pods' loader searches the folder of this copy.
    GONE WHEN that import works in `python:3.11-slim` after only `pip install lightgbm`.
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
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_COMPRESSION_LEVEL) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.GNU_FORMAT, bufsize=2**20) as target,
    ):
        for each in files:
            target.add(each, each.relative_to(site).as_posix())
    return archive.stat().st_size
