"""Decide whether this skjob may use a cluster that another one has started.

Scheduler and workers keep the source of the skjob that started them. What a client sends them is pickled, and read
there by the names of modules, classes and attributes. Another skjob may have moved or changed them: the run would fail
half-way, or compute something else. So a cluster's anchor says which skjob started it, and that is compared before the
cluster is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from skjob.deploy.kubernetes.manifests.labels import MESSAGES_ANNOTATION, SOURCE_ANNOTATION, VERSION_ANNOTATION, shown
from skjob.environment.skjob_source import skjob_archive
from skjob.errors import StartError

MESSAGES = 2
"""Number of the messages between client, scheduler and workers.

Raise it in a release that moves or changes what they pickle. Releases with the same number understand each other.
"""


@dataclass(frozen=True)
class Skjob:
    """A skjob: its version, the digest of its source, and the number of its messages."""

    version: str
    source: str
    messages: int

    def annotations(self) -> dict[str, str]:
        """Return what an anchor says of the skjob that has made it."""
        return {
            VERSION_ANNOTATION: self.version,
            SOURCE_ANNOTATION: self.source,
            MESSAGES_ANNOTATION: str(self.messages),
        }

    def understands(self, other: Skjob) -> bool:
        """Return whether this skjob may use a cluster of another.

        Two sources of one version are no releases: nobody has said that they understand each other.
        """
        return self.source == other.source or (self.messages == other.messages and self.version != other.version)


@cache
def this_skjob() -> Skjob:
    """Return the skjob that runs here."""
    from importlib.metadata import version

    return Skjob(version("skjob"), hashlib.sha256(skjob_archive()).hexdigest()[:16], MESSAGES)


def starter_of(annotations: Mapping[str, str]) -> Skjob | None:
    """Return the skjob that an anchor names; None if it names none that can be read."""
    try:
        return Skjob(
            annotations[VERSION_ANNOTATION], annotations[SOURCE_ANNOTATION], int(annotations[MESSAGES_ANNOTATION])
        )
    except (KeyError, ValueError):
        return None


def check(cluster: str, annotations: Mapping[str, str], here: Skjob) -> None:
    """Raise StartError if the skjob that has started a cluster and this one do not understand each other."""
    there = starter_of(annotations)
    if there is not None and here.understands(there):
        return
    if there is None:
        which = "an earlier skjob"
    elif there.version == here.version:
        which = f"another source of skjob {shown(there.version)}"
    else:
        which = f"skjob {shown(there.version)}"
    raise StartError(
        f"`{cluster}` was started by {which}, which this one, {here.version}, cannot use",
        f"`skjob down {cluster}` ends it, and `skjob up {cluster}` starts a new one; or use the skjob that started it",
    )
