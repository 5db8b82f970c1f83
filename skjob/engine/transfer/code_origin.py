"""Find where code comes from: an installed library, identified by its version, or local code, by its source.

Code is local if it is defined in the script or in a module of no installed distribution, as
`skjob.engine.transfer.local_code` decides; editable packages are local here too, as their version stays while their
source changes. Modules that are not imported yet are found without running anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from skjob.engine.transfer.local_code import SCRIPT, CodeOrigin, origin_of
from skjob.utils.run_module import find_spec
from skjob.utils.versions import installed_version

KNOWN_AS = {"sklearn": "scikit-learn", "dateutil": "python-dateutil", "yaml": "PyYAML", "PIL": "pillow"}
"""Distributions with another name than their package. Searching for any other takes a while."""


class Origins:
    """Distinguishes libraries from local code. `versions` are those of the workers, as far as they are known.

    It is called for every class and function, so it caches. `distributions` are those found so far, with their
    versions.
    """

    def __init__(self, root: Path | None, versions: Mapping[str, str]) -> None:
        self._root = root
        self._versions = versions
        self._known: dict[str, str | None] = {}
        self.distributions: dict[str, str] = {}

    def library(self, name: str) -> str | None:
        """Return the distribution and version that the module called `name` belongs to; None if it is local."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str | None:
        if name in SCRIPT:
            return None
        module = sys.modules.get(name)
        place = _place(module) if module is not None else locate(name)
        if place is None:
            return "python" if name.partition(".")[0] in sys.stdlib_module_names else None
        origin = origin_of(name, str(place), self._root)
        if origin is CodeOrigin.PYTHON:
            return "python"
        return self.version(name.partition(".")[0]) if origin is CodeOrigin.INSTALLED else None

    def version(self, package: str) -> str | None:
        """Return the distribution that has the package of this name, as `name==version`; None if there is none."""
        if package in sys.stdlib_module_names:
            return "python"
        name = KNOWN_AS.get(package, package)
        candidates = [name] if installed_version(name) else _distributions().get(package, [])
        for each in candidates:
            self.distributions[each] = self._versions.get(each) or installed_version(each) or ""
        return " ".join(f"{each}=={self.distributions[each]}" for each in sorted(set(candidates))) or None


def _place(module: ModuleType) -> Path | None:
    """Return the path of an imported module; of a namespace package, that of its first part."""
    file = getattr(module, "__file__", None)
    if file:
        return Path(file)
    folders = list(getattr(module, "__path__", ()))
    return Path(folders[0]) if folders else None


def locate(name: str) -> Path | None:
    """Return the file that `import name` would load, without importing its parent packages."""
    path: list[str] | None = None
    above = origin = ""
    for part in name.split("."):
        full = f"{above}.{part}" if above else part
        spec = find_spec(full, path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
        above = full
        origin = spec.origin if spec.origin and spec.has_location else ""
    if origin:
        return Path(origin)
    return Path(path[0]) if path else None


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
