"""What a platform team gives the pods of runs: labels, annotations, pull secrets, variables, mounts, an account.

They are under the key `pods` of the namespace's ConfigMap, in Kubernetes' own names where it has one. The client puts
them into its manifests; the chart's admission policies refuse everything else. Pure: text in, typed values out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from skjob.config.environment_variables import can_be_set, is_of_threads

NO_SIDECAR = {"sidecar.istio.io/inject": "false"}
"""The label and annotation of every pod, unless the team sets another value: a run's pods have TLS of their own, and a
sidecar that outlives its worker would keep the pod."""

MAX_SIZE = 8192
"""Characters of `pods` in all. The operator has to store a DaskCluster with them, and stores 32 KiB at most."""

DEFAULT_TOKEN_SECONDS = 3600

TOKEN_FILE = "token"  # noqa: S105 - its name
"""The file of a projected token, in the folder that it is mounted at."""

OWN_FOLDERS = (
    # skjob's own, and where its environments are
    "/skjob", "/tmp", "/opt/environment",  # noqa: S108 - the pod's own
    # Kubernetes' own, and what every container has
    "/var/run/secrets/kubernetes.io", "/run/secrets/kubernetes.io", "/dev", "/proc", "/sys",
    "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/passwd",
    # the image's programs and libraries, Python among them
    "/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64",
    "/usr/local/bin", "/usr/local/sbin", "/usr/local/lib",
)  # fmt: skip
"""Nothing may be mounted at these, below one, or over one."""

TEAMS_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""A user's machine has files of these names, and pods have others: those that the team mounts."""


@dataclass(frozen=True)
class PodVariable:
    """An environment variable: a plain value, or the value of a `key` of the Secret or ConfigMap `name`."""

    variable: str
    value: str = ""
    source: str = ""
    name: str = ""
    key: str = ""

    def as_env(self) -> dict[str, Any]:
        """Return it as an entry of a container's `env`. `source` is the field of `valueFrom`."""
        if not self.source:
            return {"name": self.variable, "value": self.value}
        return {"name": self.variable, "valueFrom": {self.source: {"name": self.name, "key": self.key}}}


@dataclass(frozen=True)
class PodMount:
    """Something at a path of the pods: `volume` is the source of the volume as a pod's spec has it."""

    path: str
    volume: Mapping[str, Any]
    read_only: bool = True
    sub_path: str = ""


@dataclass(frozen=True)
class PodSettings:
    """Everything that a platform team gives pods. Only pods that run the user's code get all of it."""

    labels: Mapping[str, str] = field(default_factory=lambda: dict(NO_SIDECAR))
    annotations: Mapping[str, str] = field(default_factory=lambda: dict(NO_SIDECAR))
    pull_secrets: tuple[str, ...] = ()
    variables: tuple[PodVariable, ...] = ()
    mounts: tuple[PodMount, ...] = ()
    service_account: str = ""


class PodSettingsError(ValueError):
    """What is wrong with the settings: for each mistake its place, such as `.env[0].name`, and words with a remedy."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{place} {words}" for place, words in problems))
        self.problems = problems


def parse_pods(text: str) -> PodSettings:
    """Return the settings in the YAML of the key `pods`.

    Raises:
        PodSettingsError: with every mistake.
    """
    import yaml  # most runs do not need it, nor pydantic

    from skjob.config.pod_schema import read_pods

    if len(text) > MAX_SIZE:
        raise PodSettingsError([("", f"has {len(text)} characters, and {MAX_SIZE} are the most: use a ConfigMap")])
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PodSettingsError([("", f"is not valid YAML: {' '.join(str(error).split())}")]) from error
    return read_pods({} if content is None else content)


def refused_variable(name: str) -> str:
    """Return why a platform team may not set the environment variable of this name in pods; nothing if it may.

    Names are those that users may not set either, but for `TEAMS_VARIABLES`.
    """
    if name in TEAMS_VARIABLES or can_be_set(name):
        return ""
    if is_of_threads(name):
        return "skjob sets the number of threads, which results depend on"
    return "skjob, Dask, Kubernetes, Python or the system sets it"


def refused_key(key: str) -> str:
    """Return why a label or annotation of this name is not the team's to set; nothing if it is."""
    domain, _, name = key.rpartition("/")
    owner = next((each for each in ("skjob", "dask.org") if domain == each or domain.endswith(f".{each}")), "")
    if owner or domain in ("kubernetes.io", "k8s.io", "batch.kubernetes.io", "kubectl.kubernetes.io"):
        return f"labels and annotations of `{owner or domain}` are not the platform team's"
    if domain == "app.kubernetes.io" and name in ("name", "instance", "managed-by", "component"):
        return f"skjob sets `{key}` itself"
    if key == "kueue.x-k8s.io/queue-name":
        return "the key `queue` of the ConfigMap sets the queue of Kueue"
    if key.startswith("kopf.") or key in ("controller-uid", "job-name", "pod-template-hash"):
        return f"`{key}` is set by whoever makes the pods"
    return ""


def refused_folder(path: str) -> str:
    """Return the folder that is hidden or changed by a mount at an absolute path, and must not be; else nothing."""
    return next((own for own in OWN_FOLDERS if _is_within(path, own) or _is_within(own, path)), "")


def token_audiences(settings: PodSettings) -> Iterator[str]:
    """Yield the audiences of the projected tokens that pods have."""
    for mount in settings.mounts:
        for source in mount.volume.get("projected", {}).get("sources", ()):
            yield source["serviceAccountToken"]["audience"]


def _is_within(path: str, folder: str) -> bool:
    return PurePosixPath(path).is_relative_to(folder)
