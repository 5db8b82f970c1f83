"""Define what a pod must have before it works: Python's version, exact distributions, and where to get them.

Written here, and read in the pod, where only Python itself may be installed: this file, and everything that runs in a
pod before its environment is complete, imports the standard library only.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

REQUIREMENTS_FILE = "environment.json"


@dataclass(frozen=True)
class PodRequirements:
    """The environment of a pod: `python` is a minor version, `3.11`; `pins` are versions by normalized name.

    `served_at` is the host and port that serve what the image lacks; empty if it lacks nothing. `uv` is the version of
    uv that installs.
    """

    python: str
    pins: dict[str, str]
    served_at: str = ""
    uv: str = ""

    def as_json(self) -> str:
        """Return the requirements as JSON; the same text for equal ones."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> PodRequirements:
        """Read the requirements that are mounted in `folder`."""
        return cls(**json.loads((folder / REQUIREMENTS_FILE).read_text(encoding="utf-8")))


def python_here() -> str:
    """Return the minor version of this interpreter: `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installed(path: Iterable[str] | None = None) -> dict[str, str]:
    """Return the versions of the distributions on an import path, this process's by default.

    The first of a name counts. The names of the metadata folders are enough: opening each would take ten times as long.
    """
    versions: dict[str, str] = {}
    for folder in sys.path if path is None else path:
        try:
            names = sorted(item.name for item in os.scandir(folder or "."))
        except OSError:
            continue  # a zip file, or no such folder
        for name in names:
            match = _METADATA.fullmatch(name)
            if match:
                versions.setdefault(normalized(match[1]), match[2])
    return versions


def missing_pins(pins: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return the pins that are not present in their version."""
    return {
        name: version for name, version in pins.items() if _comparable(present.get(name, "")) != _comparable(version)
    }


def describe_mismatches(mismatches: Mapping[str, str], present: Mapping[str, str]) -> str:
    """Describe each difference, such as `pandas 2.2.3 here, 3.1.0 there`."""
    return ", ".join(
        f"{name} {version} here, {present.get(name, 'none')} there" for name, version in sorted(mismatches.items())
    )


def requirements_of(pins: Mapping[str, str]) -> str:
    """Return the text of a requirements file with these versions."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def normalized(name: str) -> str:
    """Return the normalized form of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


_METADATA = re.compile(r"(.+?)-([^-]+?)(?:-py\d[^-]*)?\.(?:dist|egg)-info")


def _comparable(version: str) -> str:
    """Return the same text for all spellings of a version: `2024.01` and `2024.1`, `1.0-post1` and `1.0_post1`."""
    return re.sub(r"(?<![\d])0+(?=\d)", "", version.lower().replace("_", "-"))
