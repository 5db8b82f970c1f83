"""What a pod must have before it works: Python's version, distributions in their exact versions, and where to get them.

Written here, read in the pod, where nothing but Python itself may be there: so this file, and all that runs in a pod
before its environment is complete, imports the standard library alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NEEDS_FILE = "environment.json"


@dataclass(frozen=True)
class PodRequirements:
    """`python` is a minor version, `3.11`; `pins` are versions by normalized name.

    `served_at` is the host and port that serve what the image lacks; empty where it lacks nothing. `uv` is the version
    of uv that installs.
    """

    python: str
    pins: dict[str, str]
    served_at: str = ""
    uv: str = ""

    def as_json(self) -> str:
        """The same text for the same needs."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> PodRequirements:
        """Those that are mounted in `folder`."""
        return cls(**json.loads((folder / NEEDS_FILE).read_text(encoding="utf-8")))


def python_here() -> str:
    """The minor version of this interpreter: `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def installed(path: Iterable[str] | None = None) -> dict[str, str]:
    """Versions of the distributions on an import path, this process's by default; the first of a name counts.

    Read from the names of the folders of metadata, as wheels have them: opening each would take ten times as long.
    """
    found: dict[str, str] = {}
    for folder in sys.path if path is None else path:
        try:
            names = sorted(item.name for item in os.scandir(folder or "."))
        except OSError:
            continue  # a zip file, or not there
        for name in names:
            match = _METADATA.fullmatch(name)
            if match:
                found.setdefault(normalized(match[1]), match[2])
    return found


def missing_pins(pins: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    """The pins that are not there in their version."""
    return {name: version for name, version in pins.items() if _plain(there.get(name, "")) != _plain(version)}


def describe_mismatches(different: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Each difference in words: `pandas 2.2.3 here, 3.1.0 there`."""
    return ", ".join(
        f"{name} {version} here, {there.get(name, 'none')} there" for name, version in sorted(different.items())
    )


def requirements_of(pins: Mapping[str, str]) -> str:
    """The text of a file of requirements that asks for these versions."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def normalized(name: str) -> str:
    """As the index spells it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


_METADATA = re.compile(r"(.+?)-([^-]+?)(?:-py\d[^-]*)?\.(?:dist|egg)-info")


def _plain(version: str) -> str:
    """Two spellings of one version are alike: `2024.01` and `2024.1`, `1.0-post1` and `1.0_post1`."""
    return re.sub(r"(?<![\d])0+(?=\d)", "", version.lower().replace("_", "-"))
