"""Every name, label and annotation that skjob puts on an object, made in one place and always valid.

A name is a DNS-1035 label: it begins with a letter, ends with a letter or digit, and has at most `CLUSTER_NAME_MAX`
characters, so that the longest name that the Dask operator derives from it (`<cluster>-default-worker-<10 hex digits>`,
also used as a label value) still has at most 63. Two runs never share a name: it ends with the random part of the run
id, not with a hash of what was cut off.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

CLUSTER_NAME_MAX = 63 - len("-default-worker-") - 10

RUN_LABEL = "skjob/run"
USER_LABEL = "skjob/user"
TEAM_LABEL = "skjob/team"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
COMPONENT_LABEL = "app.kubernetes.io/component"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
PROGRAM_ANNOTATION = "skjob/program"
USER_ANNOTATION = "skjob/user"
KEPT_ANNOTATION = "skjob/kept-until"
ENVIRONMENT_ANNOTATION = "skjob/environment"
IDLE_ANNOTATION = "skjob/idle-timeout"
"""Seconds that a kept cluster lives after its last use."""
WORKERS_ANNOTATION = "skjob/workers"
"""The range within which a run on a kept cluster scales it, such as `1:20`."""
VERSION_ANNOTATION = "skjob/version"
"""The version of the skjob that started a cluster."""
SOURCE_ANNOTATION = "skjob/source"
"""The digest of that skjob's source, which scheduler and workers have."""
MESSAGES_ANNOTATION = "skjob/messages"
"""The version of the messages that scheduler and workers understand."""
COST_ANNOTATION = "skjob/cost"
"""What a run's cluster has cost by a certain time, and its hourly rate since, as JSON."""
VARIABLES_ANNOTATION = "skjob/variables"
"""The names of the variables that a user has set for workers, separated by commas."""
POOL_ANNOTATION = "skjob/node-pool"
"""The node pool of a cluster's workers."""
USE_ANNOTATION = "skjob/in-use"
"""The program that uses a kept cluster, until when that is known, and which ledger entry pays, as JSON."""

MANAGED_BY_SKJOB = f"{MANAGED_BY_LABEL}=skjob"
LEDGER_CONFIGMAP = "skjob-costs"
"""The ConfigMap in a run's namespace that its costs are added to."""
DEFAULTS_CONFIGMAP = "skjob-defaults"
"""The ConfigMap in a run's namespace that holds the platform team's defaults."""


def shown(text: str) -> str:
    """Return an annotation's text without characters that control a terminal: somebody else wrote it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def kept_annotation(until: datetime) -> dict[str, str]:
    """Return the annotation that records until when something unused is kept."""
    return {KEPT_ANNOTATION: until.isoformat(timespec="seconds")}


def check_cluster_name(name: str) -> str:
    """Return a cluster's name as the user gave it. Raise ValueError if it is not valid."""
    if name != slug(name, CLUSTER_NAME_MAX):
        raise ValueError(
            f"must be at most {CLUSTER_NAME_MAX} lower-case letters, digits and hyphens, starting with a letter"
            " and ending with a letter or digit"
        )
    return name


def slug(text: str, max_length: int = 63) -> str:
    """Return a text as a DNS-1035 label of at most `max_length` characters; `x` if nothing of it is valid."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    cleaned = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if not cleaned or not cleaned[0].isalpha():
        cleaned = f"x-{cleaned}" if cleaned else "x"
    return cleaned[:max_length].rstrip("-")


def new_run_id() -> str:
    """Return a sortable id, unique without coordination, such as `20261123-155901-3f9a1c`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class RunNames:
    """The names of one run's objects."""

    run_id: str
    program: str
    user: str
    existing: str = ""
    team: str = ""

    @property
    def cluster(self) -> str:
        """The name of a run's anchor, DaskCluster and Secret."""
        if self.existing:
            return self.existing
        unique = "-" + self.run_id.rsplit("-", 1)[-1]
        return slug(f"skjob-{slug(self.program)}", CLUSTER_NAME_MAX - len(unique)) + unique

    def labels(self, component: str) -> dict[str, str]:
        """Return the labels of an object of this run."""
        team = {TEAM_LABEL: slug(self.team)} if self.team else {}
        return team | {
            NAME_LABEL: "skjob",
            INSTANCE_LABEL: self.cluster,
            MANAGED_BY_LABEL: "skjob",
            COMPONENT_LABEL: component,
            RUN_LABEL: self.run_id,
            USER_LABEL: slug(self.user),
        }

    def annotations(self) -> dict[str, str]:
        """Return the annotations for what labels cannot hold: the names of user and program as they are."""
        return {USER_ANNOTATION: self.user, PROGRAM_ANNOTATION: self.program}
