"""Every name, label and annotation that skjob puts on an object, made once and always valid.

What a name keeps: it is a DNS-1035 label, begins with a letter, ends with a letter or digit, and has at most
`CLUSTER_NAME_MAX` characters, so that the longest name derived from it by the Dask operator
(`<cluster>-default-worker-<10 hex digits>`, which is a label value too) still has at most 63.
Two runs never share a name: it ends with the random part of the run id, not with a hash of what was cut off.
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
"""Seconds that a cluster which was left lives after its last use."""
WORKERS_ANNOTATION = "skjob/workers"
"""The range in which a run on such a cluster scales it, `1:20`."""
VERSION_ANNOTATION = "skjob/version"
"""The version of the skjob that has started a cluster."""
SOURCE_ANNOTATION = "skjob/source"
"""The digest of its source, which scheduler and workers have."""
MESSAGES_ANNOTATION = "skjob/messages"
"""The number of the messages that they understand."""
COST_ANNOTATION = "skjob/cost"
"""What a run's cluster has cost by a certain time, and costs since, as JSON."""
VARIABLES_ANNOTATION = "skjob/variables"
"""The names of the variables that a user has set for the workers, separated by commas."""
POOL_ANNOTATION = "skjob/node-pool"
"""The node pool of a cluster's workers."""
USE_ANNOTATION = "skjob/in-use"
"""The program that uses such a cluster now, until when that is known, and which entry of the ledger pays, as JSON."""

MANAGED_BY_SKJOB = f"{MANAGED_BY_LABEL}=skjob"
LEDGER_CONFIGMAP = "skjob-costs"
"""The ConfigMap, in the same namespace, that runs add their costs to."""
DEFAULTS_CONFIGMAP = "skjob-defaults"
"""The ConfigMap, in the namespace of a run, that holds a platform team's defaults."""


def shown(text: str) -> str:
    """Return an annotation's text for a terminal, without the characters it acts on: somebody else wrote it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def kept_annotation(until: datetime) -> dict[str, str]:
    """Says until when something is kept that nobody uses."""
    return {KEPT_ANNOTATION: until.isoformat(timespec="seconds")}


def check_cluster_name(name: str) -> str:
    """Return a cluster's name as a user gives it. Raise ValueError if no cluster can have it."""
    if name != slug(name, CLUSTER_NAME_MAX):
        raise ValueError(
            f"must be at most {CLUSTER_NAME_MAX} small letters, digits and hyphens, a letter first,"
            " a letter or digit last"
        )
    return name


def slug(text: str, max_length: int = 63) -> str:
    """Return a text as a DNS-1035 label of at most `max_length` characters; `x` if nothing of it can stay."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    cleaned = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if not cleaned or not cleaned[0].isalpha():
        cleaned = f"x-{cleaned}" if cleaned else "x"
    return cleaned[:max_length].rstrip("-")


def new_run_id() -> str:
    """Return a sortable id, unique without coordination: `20261123-155901-3f9a1c`."""
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
        """Return what a label cannot hold: the names of user and program as they are."""
        return {USER_ANNOTATION: self.user, PROGRAM_ANNOTATION: self.program}
