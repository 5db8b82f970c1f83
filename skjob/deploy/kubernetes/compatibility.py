"""Decide whether this version of skjob may use a cluster that another one started.

Scheduler and workers keep the source of the skjob that started them. What a client sends them is pickled, which refers
to modules, classes and attributes by name. Another version may have moved or changed them: the run would fail half-way,
or compute something else. So a cluster's anchor records which skjob started it, and clients compare it before they use
the cluster.
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
"""Version of the messages between client, scheduler and workers.

Increase it in a release that moves or changes what is pickled. Releases with the same number are compatible.
"""


@dataclass(frozen=True)
class Skjob:
    """A build of skjob: its version, the digest of its source, and the version of its messages."""

    version: str
    source: str
    messages: int

    def annotations(self) -> dict[str, str]:
        """Return the annotations that record this skjob on an anchor."""
        return {
            VERSION_ANNOTATION: self.version,
            SOURCE_ANNOTATION: self.source,
            MESSAGES_ANNOTATION: str(self.messages),
        }

    def understands(self, other: Skjob) -> bool:
        """Return whether this skjob may use a cluster that another one started.

        Two sources with the same version are not releases: nothing guarantees that they are compatible.
        """
        return self.source == other.source or (self.messages == other.messages and self.version != other.version)


@cache
def this_skjob() -> Skjob:
    """Return the skjob that is running here."""
    from importlib.metadata import version

    return Skjob(version("skjob"), hashlib.sha256(skjob_archive()).hexdigest()[:16], MESSAGES)


def starter_of(annotations: Mapping[str, str]) -> Skjob | None:
    """Return the skjob that an anchor records; None if it records none, or none that can be read."""
    try:
        return Skjob(
            annotations[VERSION_ANNOTATION], annotations[SOURCE_ANNOTATION], int(annotations[MESSAGES_ANNOTATION])
        )
    except (KeyError, ValueError):
        return None


def check(cluster: str, annotations: Mapping[str, str], here: Skjob) -> None:
    """Raise StartError if this skjob is not compatible with the one that started a cluster."""
    starter = starter_of(annotations)
    if starter is not None and here.understands(starter):
        return
    if starter is None:
        which = "an earlier skjob"
    elif starter.version == here.version:
        which = f"another build of skjob {shown(starter.version)}"
    else:
        which = f"skjob {shown(starter.version)}"
    raise StartError(
        f"`{cluster}` was started by {which}, which is not compatible with this one, {here.version}",
        f"`skjob down {cluster}` removes it, and `skjob up {cluster}` starts a new one;"
        " or use the skjob that started it",
    )
