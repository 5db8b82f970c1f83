"""Hold one tool's settings of indexes, whichever tool it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from skjob.environment.index.settings import Index

BEST_MATCH = "unsafe-best-match"

TRUE = ("1", "true", "t", "yes", "y", "on")


@dataclass
class ToolSettings:
    """The configuration of one tool, in its own terms. Indexes and find-links may still be paths."""

    indexes: list[Index] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool = False
    strategy: str = ""
    insecure_hosts: list[str] = field(default_factory=list)
    proxies: dict[str, str] = field(default_factory=dict)
    system_certificates: bool = False

    def locations(self) -> bool:
        """Return whether the tool's configuration says where to install from."""
        return bool(self.indexes or self.find_links or self.no_index)


def xdg_folders(environ: Mapping[str, str]) -> list[str]:
    """Return the folders of a machine's configuration, the most important first (XDG Base Directory Specification)."""
    return [each for each in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep) if each]


def is_address(place: str) -> bool:
    """Return whether an index is an address and not a path."""
    return place.startswith(("http://", "https://"))
