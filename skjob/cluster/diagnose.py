"""Why pods of a cluster do not run: from what the Kubernetes API says of them to causes a user can act on.

Pure over API objects, plain dicts in the API's own spelling. Pods that suffer the same make one cause, with their
number. A cause is *fatal* when waiting can't help: an image that does not exist is, a node that is full is not, since
another run may end or an autoscaler may come. The words of the event or the container are kept, because they are what
a user's platform team searches for.

Ask for the events before the pods: a rejection whose pod exists by now is no news.
"""

from __future__ import annotations

import math
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from skjob.cluster.capacity import Manifest, format_memory, format_size, largest_fit, most_free, quantity, requests
from skjob.environment.pod import UNFIT


class CauseKind(StrEnum):
    """What keeps a pod from running, in the order of telling."""

    REJECTED = "rejected"
    """The API would not have the pod: quota, limits, pod security, an admission rule."""
    IMAGE = "image"
    COMMAND = "command"
    """The image does not have the command that it is asked to run."""
    ENVIRONMENT = "environment"
    """The image has not what the program needs, and can't get it."""
    CONFIGURATION = "configuration"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out-of-memory"
    EVICTED = "evicted"
    NODE = "node"
    """The node is lost, or can't set the pod up."""
    UNSCHEDULABLE = "unschedulable"


@dataclass(frozen=True)
class Cause:
    """One reason, for all pods that share it. `object` is the first of them, as `Pod/name`.

    `topic` stays the same while the words, and the number of pods, change. `log` is the last lines that one of them
    wrote, where it has ended.
    """

    kind: CauseKind
    message: str
    hint: str
    fatal: bool
    object: str
    topic: str = ""
    log: str = ""


def diagnose(
    pods: Sequence[Manifest],
    events: Sequence[Manifest],
    *,
    nodes: Sequence[Manifest] | None = None,
    logs: Mapping[str, str] | None = None,
    others: Sequence[Manifest] = (),
    cluster: str = "",
    since: str = "",
) -> list[Cause]:
    """Why pods of one cluster do not run; fatal causes first, none when all is well.

    Args:
        pods: the pods of the cluster, all of them.
        events: events of the namespace. With `cluster`, those about other clusters' objects are left out.
        nodes: the nodes, where the user may list them: then a size that no node can hold is told as such.
        logs: the last lines of pods that ended, by pod name: an import that fails is fatal at once.
        others: the pods on all nodes, where the user may list them: then the most that is free is told.
        cluster: the name that the names of all the cluster's objects begin with.
        since: when the cluster was made, as the API tells it. Events stay for an hour, in which an earlier one may have
            had its name.
    """
    own = [event for event in events if _is_of(_about(event), cluster) and not _is_before(event, since)]
    evidence = _Evidence(pods, own, nodes or (), logs or {}, others)
    findings = [*_rejections(evidence), *_evictions(evidence)]
    for pod in pods:
        findings += _of_pod(pod, evidence)
    return _merge(findings)


@dataclass(frozen=True)
class _Evidence:
    pods: Sequence[Manifest]
    events: Sequence[Manifest]
    nodes: Sequence[Manifest]
    logs: Mapping[str, str]
    others: Sequence[Manifest]

    @cached_property
    def lost_nodes(self) -> set[str]:
        """Asked for each pod, and there may be many of both."""
        return lost(self.nodes)

    def of(self, name: str, *reasons: str) -> list[Manifest]:
        """Events about one object with one of these reasons, the newest last."""
        chosen = [event for event in self.events if _about(event) == name and event.get("reason") in reasons]
        return sorted(chosen, key=_when)

    @property
    def scheduler_missing(self) -> bool:
        """There is a scheduler pod and it does not run: workers that give up meanwhile are not to blame."""
        schedulers = [pod for pod in self.pods if _role(pod) == _SCHEDULER]
        return bool(schedulers) and not any(status.get("ready") for pod in schedulers for status in _statuses(pod))


@dataclass(frozen=True)
class _Finding:
    """A cause as seen on one object."""

    kind: CauseKind
    text: str
    hint: str
    fatal: bool
    object: str
    role: str
    log: str = ""
    topic: str = ""


_SCHEDULER, _WORKER = "scheduler", "worker"


def _merge(findings: Sequence[_Finding]) -> list[Cause]:
    groups: dict[tuple[CauseKind, str], list[_Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.kind, finding.topic or finding.text), []).append(finding)
    causes = []
    for (kind, topic), group in groups.items():
        fatal = any(finding.fatal for finding in group)
        first = next(finding for finding in group if finding.fatal == fatal)
        message = f"{first.text} ({_who(group)})"
        causes.append(Cause(kind, message, first.hint, fatal, first.object, topic, first.log))
    order = list(CauseKind)
    return sorted(causes, key=lambda cause: (not cause.fatal, order.index(cause.kind)))


def _who(group: Sequence[_Finding]) -> str:
    role_of = {finding.object: finding.role for finding in group}
    counts = Counter(role_of.values())
    parts = [_SCHEDULER] * bool(counts[_SCHEDULER])
    parts += [f"{counts[_WORKER]} worker{'s' * (counts[_WORKER] > 1)}"] * bool(counts[_WORKER])
    others = [name for name, role in role_of.items() if role not in (_SCHEDULER, _WORKER)]
    parts += [f"`{others[0]}`"] if len(others) == 1 else [f"{len(others)} pods"] * bool(others)
    return " and ".join(parts)


# --- the pods that never came to be


_REJECTION_HINTS = (
    (r"because it is being terminated", "the namespace is being deleted: choose another `--namespace`"),
    (r"exceeded quota", "`kubectl get resourcequota` shows it; ask for fewer or smaller workers, or for more quota"),
    (
        r"failed quota: .*must specify",
        "the quota wants what skjob leaves open: a LimitRange with defaults for it, in the namespace, fills it in",
    ),
    (
        r"(maximum|minimum) \S+ usage per|max limit to request ratio",
        "choose `--worker-cpu` and `--worker-memory` within what `kubectl describe limitrange` shows",
    ),
    (
        r"violates PodSecurity",
        "ask whoever sets the namespace's pod security level, or choose another `--namespace`",
    ),
    (r"admission webhook|ValidatingAdmissionPolicy", "a policy of this cluster says no: ask your platform team"),
)
_PASSING_REJECTION = re.compile(
    r"failed calling webhook|status unknown for quota|serviceaccount \S+ not found|timed? ?out|deadline exceeded"
    r"|connection refused|object has been modified",
    re.IGNORECASE,
)


def hint_of_refusal(words: str) -> str:
    """What to do about something that the API would not have; empty where the words are not known."""
    return next((hint for pattern, hint in _REJECTION_HINTS if re.search(pattern, words)), "")


_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (\S+), used: (\S+), limited: (\S+)")


def _has_room(quota: re.Match[str], role: str, evidence: _Evidence) -> bool:
    """Whether a quota could hold the smallest cluster, a scheduler and a worker, if nothing else were there.

    What others use of it comes back when their runs end.
    """
    requested, limited = _amounts(quota[2]), _amounts(quota[4])
    ours = [pod for pod in evidence.pods if _role(pod) == _SCHEDULER] if role == _WORKER else []
    return all(
        amount + sum(_counts_as(pod, name) for pod in ours) <= limited.get(name, math.inf)
        for name, amount in requested.items()
    )


def _amounts(text: str) -> dict[str, float]:
    """`pods=1,limits.memory=2Gi`, as numbers."""
    return {name: quantity(amount) for name, _, amount in (item.partition("=") for item in text.split(","))}


def _counts_as(pod: Manifest, name: str) -> float:
    """How much of this resource of a quota a pod takes."""
    cpu, memory = requests(pod)
    resource = name.removeprefix("requests.")
    if name in ("limits.cpu", "limits.memory"):
        limits = [container.get("resources", {}).get("limits") or {} for container in pod["spec"]["containers"]]
        return sum(quantity(limit.get(name.removeprefix("limits."), "0")) for limit in limits)
    return {"cpu": cpu, "memory": float(memory), "pods": 1.0, "count/pods": 1.0}.get(resource, 0.0)


def _rejections(evidence: _Evidence) -> Iterator[_Finding]:
    owners = {owner.get("name") for pod in evidence.pods for owner in pod["metadata"].get("ownerReferences") or []}
    for event in evidence.events:
        if event.get("reason") != "FailedCreate" or _about(event) in owners:
            continue
        words = re.sub(r"^\(combined from similar events\): ", "", event.get("message", ""))
        words = re.sub(r"^Error creating: ", "", words)
        words = _readable(_words(re.sub(r'^pods "[^"]*" is forbidden: ', "", words)))
        role = _role_of_name(_about(event))
        text = f"the API refuses the pod: {words}"
        fatal, topic = not _PASSING_REJECTION.search(words), text
        if quota := _QUOTA.search(words):
            fatal, topic = not _has_room(quota, role, evidence), f"quota {quota[1]}"
            text += "" if fatal else "; waiting for room in it"
        yield _Finding(
            CauseKind.REJECTED,
            text,
            hint_of_refusal(words) or "ask your platform team, or choose another `--namespace`",
            fatal,
            f"{event['involvedObject'].get('kind', 'ReplicaSet')}/{_about(event)}",
            role,
            topic=topic,
        )


# --- the pods that are there, or were


def _evictions(evidence: _Evidence) -> Iterator[_Finding]:
    """Of pods whose status does not tell: it may say that they succeeded, or they are gone already."""
    told = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod)}
    for event in evidence.events:
        if event.get("reason") in ("Evicted", "Preempted") and _about(event) not in told:
            told.add(_about(event))
            source = event.get("source", {}).get("host") or event.get("reportingInstance", "")
            who = f"the node `{source}` ended the pod" if event["reason"] == "Evicted" else "the pod had to go"
            text = f"{who}: {event['reason']}: {_words(event.get('message', ''))}"
            role = _role_of_name(_about(event))
            hint = _eviction_hint({"reason": event["reason"], "message": event.get("message", "")})
            again = role == _SCHEDULER and _evicted_schedulers(evidence) > 1
            yield _Finding(CauseKind.EVICTED, text, hint, again, f"Pod/{_about(event)}", role)


def _evicted_schedulers(evidence: _Evidence) -> int:
    """Another pod takes the place of one: where that goes the same way, so will the next."""
    names = {pod["metadata"]["name"] for pod in evidence.pods if _is_evicted(pod) and _role(pod) == _SCHEDULER}
    evicted = {_about(event) for event in evidence.events if event.get("reason") == "Evicted"}
    return len(names | {name for name in evicted if _role_of_name(name) == _SCHEDULER})


_GONE_WITH_NODE = ("DeletionByTaintManager", "DeletionByPodGC")


def _of_pod(pod: Manifest, evidence: _Evidence) -> Iterator[_Finding]:
    status = pod.get("status", {})
    scheduler = _role(pod) == _SCHEDULER
    node = pod.get("spec", {}).get("nodeName", "")

    def finding(kind: CauseKind, text: str, hint: str, fatal: bool) -> _Finding:
        log = topic = ""
        if kind is CauseKind.CRASHED:
            # Its last line may not be there yet when it has just ended.
            log, topic = _last_lines(evidence.logs.get(pod["metadata"]["name"], "")), text.partition(": ")[0]
        return _Finding(kind, text, hint, fatal, f"Pod/{pod['metadata']['name']}", _role(pod), log, topic)

    disruption = _condition(pod, "DisruptionTarget") or {}
    if status.get("reason") == "NodeLost" or disruption.get("reason") in _GONE_WITH_NODE or node in evidence.lost_nodes:
        text = f"the node `{node}` does not answer"
        yield finding(CauseKind.NODE, text, "Kubernetes starts its pods elsewhere; fits are done again", scheduler)
        return
    if status.get("phase") == "Failed" and status.get("reason"):
        words = _words(f"{status['reason']}: {status.get('message', '')}")
        text = f"the node `{node}` ended the pod: {words}"
        again = scheduler and _evicted_schedulers(evidence) > 1
        yield finding(CauseKind.EVICTED, text, _eviction_hint(status), again)
        return
    if disruption.get("status") == "True":
        text = f"the pod has to go: {_words(disruption.get('message') or disruption.get('reason', ''))}"
        yield finding(CauseKind.EVICTED, text, "another pod took its place or its node is being emptied", False)
        return
    if "deletionTimestamp" in pod["metadata"]:
        return
    scheduled = _condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        yield _unschedulable(pod, scheduled, evidence)
        return
    for container in _statuses(pod):
        for kind, text, hint, fatal in _of_container(pod, container, evidence):
            yield finding(kind, text, hint, fatal)
        if _waiting(container).get("reason") in ("ContainerCreating", "PodInitializing"):
            for event in evidence.of(pod["metadata"]["name"], "FailedMount", "FailedCreatePodSandBox")[-1:]:
                kind = CauseKind.CONFIGURATION if event["reason"] == "FailedMount" else CauseKind.NODE
                text = f"the node `{node}` can't set the pod up yet: {_words(event.get('message', ''))}"
                yield finding(kind, text, "Kubernetes tries again; `kubectl get events` shows more", False)


_ELSEWHERE = "the node filled up at the same moment; Kubernetes starts the pod elsewhere"
_EVICTION_HINTS = {
    "Evicted": "`--worker-memory` reserves more, so that a node takes fewer workers",
    "OutOfcpu": _ELSEWHERE,
    "OutOfmemory": _ELSEWHERE,
    "OutOfpods": _ELSEWHERE,
}


def _eviction_hint(status: Manifest) -> str:
    if re.search(r"ephemeral|emptyDir", status.get("message", "")):
        return "write less to `/tmp` and to the log, or ask your platform team for more ephemeral storage"
    return _EVICTION_HINTS.get(status["reason"], "its work is done again elsewhere")


def _is_evicted(pod: Manifest) -> bool:
    status = pod.get("status", {})
    return bool(status.get("phase") == "Failed" and status.get("reason") == "Evicted")


def lost(nodes: Sequence[Manifest]) -> set[str]:
    """The names of those that do not answer."""
    unready = [node for node in nodes if (_condition(node, "Ready") or {}).get("status") in ("Unknown", "False")]
    return {node["metadata"]["name"] for node in unready}


def _unschedulable(pod: Manifest, condition: Manifest, evidence: _Evidence) -> _Finding:
    name, role = pod["metadata"]["name"], _role(pod)
    cpu, memory = requests(pod)
    fit = largest_fit(evidence.nodes, cpu, memory, what=role or "pod") if evidence.nodes else None
    words = _words(re.split(r"\.? (?:no new claims|preemption:)", condition.get("message", ""))[0])
    hint = "ask for fewer or smaller workers (`--workers`, `--worker-cpu`, `--worker-memory`), or free some room"
    if condition.get("reason") == "SchedulingGated":
        text = "the pod waits until a queue of this cluster lets it in"
        hint = "`kubectl describe pod` shows its scheduling gates"
    elif fit is not None and not fit.fits:
        text = fit.message
        hint = "ask for less with `--worker-cpu` and `--worker-memory`, or add a larger node"
    else:
        text = f"no node has room for a {role or 'pod'} of {format_size(cpu, memory)}: {words}"
        if evidence.nodes and evidence.others and (free := most_free(evidence.nodes, evidence.others, cpu, memory)):
            text += f"; the most that is free now is {free}"
    topic = f"{role} {condition.get('reason')}"
    if evidence.of(name, "TriggeredScaleUp"):
        text += "; the cluster's autoscaler adds a node"
        topic += " scale-up"
    elif refusals := evidence.of(name, "NotTriggerScaleUp"):
        topic += " no scale-up"
        text += f"; the autoscaler adds no node: {_words(refusals[-1].get('message', ''))}"
    else:
        text += "; waiting for room"
    return _Finding(CauseKind.UNSCHEDULABLE, text, hint, False, f"Pod/{name}", role, topic=topic)


# --- the containers


_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_HOPELESS_PULLS = (
    (
        r"unauthorized|authentication required|no basic auth|pull access denied|\b40[13]\b|denied",
        "give the namespace's service account an image pull secret for this registry, or choose another `--image`",
    ),
    (
        r"not found|manifest unknown|\b404\b|no match for platform|does not exist",
        "choose an image that exists: `--image`",
    ),
    (r"no such host", "check the registry's name in `--image`: the nodes don't know that host"),
    (r"x509|http response to https", "the nodes must trust the registry's certificate; or choose another `--image`"),
)
_PASSING_PULL = re.compile(
    r"time[d-]?\s?out|deadline exceeded|connection (refused|reset)|too ?many ?requests|rate limit|\bEOF\b"
    r"|\b(429|50[0234])\b|temporary failure|server misbehaving|network is unreachable|QPS exceeded|request canceled",
    re.IGNORECASE,
)
_PASSING_PULL_LIMIT = 4
"""So many failures of one pull, over a minute or so, are no passing trouble any more."""

_SHORT_LIFE = 60.0
"""A container that ran for longer, in seconds, could start: what ended it is the program's affair."""

_RESTARTS = 2
"""After so many restarts of a container that lives shortly, the next will not do better."""

_MEMORY_RESTARTS = 1
"""The same of one that needs too much memory as it starts: it needs no less the next time."""

_LOG_LINES = 12

_HOPELESS_LOG = re.compile(
    r"ModuleNotFoundError|ImportError|SyntaxError|No module named|No such (option|command)|unrecognized arguments"
    r"|No matching distribution"
)
_LOG_CAUSE = re.compile(r"^\s*(\S*(Error|Exception)\b.*|ERROR: .*|.*No module named .*)$")

_Symptom = tuple[CauseKind, str, str, bool]


def _of_container(pod: Manifest, container: Manifest, evidence: _Evidence) -> Iterator[_Symptom]:
    waiting = _waiting(container)
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    image = container.get("image") or _spec(pod, container["name"]).get("image", "")
    words = f"{waiting.get('message', '')} {ended.get('message', '')}"
    if waiting.get("reason") in _IMAGE_REASONS:
        asked = str(_spec(pod, container["name"]).get("image", image))
        yield _image(pod, waiting, asked, evidence)
    elif command := re.search(r'exec: "([^"]+)": (.+?)(?:: unknown)?$', words.strip()):
        problem = "has no command" if "not found" in command[2] or "no such file" in command[2] else "can't run"
        hint = "choose an image with Python, dask and what the program imports: `--image`; `skjob doctor` checks one"
        yield CauseKind.COMMAND, f"the image `{image}` {problem} `{command[1]}`", hint, True
    elif waiting.get("reason") == "CreateContainerConfigError":
        yield _configuration(image, waiting)
    elif waiting.get("reason") in ("CreateContainerError", "RunContainerError") or ended.get("reason") == "StartError":
        hint = "`kubectl describe pod` shows more; `--image` chooses another image"
        text = f"the container can't be started: {_words(words)}"
        yield CauseKind.CONFIGURATION, text, hint, container.get("restartCount", 0) >= _RESTARTS
    elif ended.get("reason") == "OOMKilled":
        limit = _spec(pod, container["name"]).get("resources", {}).get("limits", {}).get("memory", "")
        of = f" of {format_memory(quantity(limit))}" if limit else ""
        text = f"killed for using more memory than its limit{of}"
        hint = "give each worker more memory with `--worker-memory`, or fit fewer models in it at a time"
        yield CauseKind.OUT_OF_MEMORY, text, hint, _is_loop(container, ended, _MEMORY_RESTARTS)
    elif ended.get("exitCode") == UNFIT and ended.get("message"):
        hint = "run it again: the image is looked into anew; or `--env none` takes it as it is"
        yield CauseKind.ENVIRONMENT, _words(ended["message"], 4000), hint, True
    elif ended.get("exitCode") and not _log_is_to_come(pod, container, evidence):
        yield _crash(pod, container, ended, evidence)


def _image(pod: Manifest, waiting: Manifest, image: str, evidence: _Evidence) -> _Symptom:
    failures = [
        event
        for event in evidence.of(pod["metadata"]["name"], "Failed")
        if event.get("message", "").startswith("Failed to pull image")
    ]
    words = _pull_words(waiting.get("message", ""))
    if failures and (not words or words.startswith("Back-off")):
        words = _pull_words(failures[-1]["message"])
    reason = str(waiting["reason"])
    missing = _missing_secrets(pod, evidence)
    if missing:
        words += f"; the pull secret {missing} is not there"
    if reason == "InvalidImageName":
        return CauseKind.IMAGE, f"`{image}` is not the name of an image", "correct `--image`", True
    if reason == "ErrImageNeverPull" or image.startswith("localhost/"):
        text = f"the image `{image}` is not on the node: {words}"
        hint = f"load it onto every node, with kind: `kind load docker-image {image}`; or choose another `--image`"
        return CauseKind.IMAGE, text, hint, True
    # The image's own name must not be taken for the trouble.
    plain = words.replace(image, "")
    text = f"the image `{image}` can't be pulled: {words or reason}"
    attempts = sum(_count(event) for event in failures)
    passing = bool(_PASSING_PULL.search(plain))
    if missing and not passing:
        hint = f"create {missing} in the namespace (`kubectl create secret docker-registry`), or mend the service"
        return CauseKind.IMAGE, text, f"{hint} account that names it", True
    for pattern, hint in _HOPELESS_PULLS:
        if not passing and re.search(pattern, plain, re.IGNORECASE):
            return CauseKind.IMAGE, text, hint, True
    if passing:
        hint = "Kubernetes tries again; if it stays, choose an image from another registry with `--image`"
        return CauseKind.IMAGE, text, hint, attempts >= _PASSING_PULL_LIMIT
    return (
        CauseKind.IMAGE,
        text,
        "choose an image that the nodes can pull: `--image`",
        (reason != "ErrImagePull" or attempts > 1),
    )


def _missing_secrets(pod: Manifest, evidence: _Evidence) -> str:
    """The pull secrets that the pod should have and the namespace has not, in backticks."""
    for event in evidence.of(pod["metadata"]["name"], "FailedToRetrieveImagePullSecret")[-1:]:
        if named := re.search(r"secrets? \(([^)]+)\)", event.get("message", "")):
            return ", ".join(f"`{name.strip()}`" for name in named[1].split(","))
    return ""


_PULL_LAYERS = re.compile(
    r'^(?:(?:Failed to pull|Back-off pulling|failed to pull and unpack|failed to resolve) (?:image|reference) "[^"]*": '
    r"|ErrImagePull: |rpc error: code = \w+ desc = )+"
)


def _pull_words(message: str) -> str:
    """What the registry said, without the layers that passed it on."""
    return _words(_PULL_LAYERS.sub("", message))


def _configuration(image: str, waiting: Manifest) -> _Symptom:
    words = _words(waiting.get("message", ""))
    hint = "`kubectl describe pod` shows more"
    if "runAsNonRoot" in words or "non-root" in words:
        hint = f"`{image}` runs as root: choose an image with a numeric `USER`, with `--image`"
    return CauseKind.CONFIGURATION, f"the container can't be created: {words}", hint, True


def _crash(pod: Manifest, container: Manifest, ended: Manifest, evidence: _Evidence) -> _Symptom:
    log = evidence.logs.get(pod["metadata"]["name"], "")
    lines = [match[1] for line in log.splitlines() if (match := _LOG_CAUSE.match(line))]
    hopeless = bool(lines) and bool(_HOPELESS_LOG.search(lines[-1]))
    code = ended["exitCode"]
    text = f"the container `{container['name']}` ended with {_exit(code)}" + (f": {_words(lines[-1])}" if lines else "")
    hint = f"`kubectl logs {pod['metadata']['name']} --previous` shows what it wrote"
    if hopeless or code in (126, 127):
        hint = "choose an image that has it: `--image`; `skjob doctor` compares an image with this machine"
    if "No matching distribution" in text:
        hint = "pods must reach the package index; or choose an image that has everything: `--image`"
    blameless = _role(pod) == _WORKER and evidence.scheduler_missing
    fatal = hopeless or code in (126, 127) or (_is_loop(container, ended) and not blameless)
    return CauseKind.CRASHED, text, hint, fatal and not container.get("ready", False)


def _log_is_to_come(pod: Manifest, container: Manifest, evidence: _Evidence) -> bool:
    """Of a container that has just ended, the node may not give what it wrote yet: the next look has it."""
    return evidence.logs.get(pod["metadata"]["name"]) == "" and container.get("restartCount", 0) < _RESTARTS


def _last_lines(log: str) -> str:
    """What a container wrote last, as much as a person reads."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return "\n".join(line if len(line) <= 200 else f"{line[:199]}…" for line in lines[-_LOG_LINES:])


def _is_loop(container: Manifest, ended: Manifest, restarts: int = _RESTARTS) -> bool:
    """Whether the container ends again and again, soon after it started."""
    if container.get("ready") or container.get("restartCount", 0) < restarts:
        return False
    try:
        life = datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])
    except (KeyError, TypeError, ValueError):
        return True
    return life.total_seconds() < _SHORT_LIFE


def _exit(code: int) -> str:
    try:
        return f"signal {signal.Signals(code - 128).name}" if code > 128 else f"exit code {code}"
    except ValueError:
        return f"exit code {code}"


# --- reading API objects


def _words(text: str, limit: int = 400) -> str:
    """What the API said, on one line."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _readable(words: str) -> str:
    """The same, with large numbers of bytes as people write them: `512Mi`."""
    return re.sub(r"(?<=[= ])\d{7,}(?=[,;\s]|$)", lambda found: _binary(int(found[0])), words)


def _binary(size: int) -> str:
    for unit, power in (("Gi", 30), ("Mi", 20)):
        if size >= 2**power and size % 2**10 == 0:
            return f"{size / 2**power:.3f}".rstrip("0").rstrip(".") + unit
    return str(size)


_SECONDS = len("2026-11-26T12:00:00")


def _about(event: Manifest) -> str:
    return str((event.get("involvedObject") or event.get("regarding") or {}).get("name", ""))


def _is_of(name: str, cluster: str) -> bool:
    """Whether an object is of the cluster, by the names that the operator gives, and a Job: `dev-scheduler-…` is of
    `dev`, and `dev-2-scheduler-…` is not."""
    made = r"(-scheduler(-[\w-]+)?|-default(-worker-[\w-]+)?|-\w{5})?"
    return not cluster or re.fullmatch(re.escape(cluster) + made, name) is not None


def _is_before(event: Manifest, moment: str) -> bool:
    """Some events tell less than a second, and objects do not."""
    return bool(_when(event)) and _when(event)[:_SECONDS] < moment[:_SECONDS]


def _count(event: Manifest) -> int:
    return int(event.get("count") or (event.get("series") or {}).get("count") or 1)


def _when(event: Manifest) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _role(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get("dask.org/component", ""))


def _role_of_name(name: str) -> str:
    """The role of a pod, or a ReplicaSet's pods: the operator's names are `<cluster>-scheduler-…` and `…-worker-…`."""
    return _WORKER if "-default-worker-" in name else _SCHEDULER if re.search(r"-scheduler-[\w-]+$", name) else ""


def _conditions(manifest: Manifest) -> list[Manifest]:
    return manifest.get("status", {}).get("conditions") or []


def _condition(manifest: Manifest, kind: str) -> Manifest | None:
    return next((item for item in _conditions(manifest) if item["type"] == kind), None)


def _statuses(pod: Manifest) -> list[Manifest]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _waiting(container: Manifest) -> Manifest:
    return container.get("state", {}).get("waiting") or {}


def _spec(pod: Manifest, container: str) -> Manifest:
    spec = pod.get("spec", {})
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    return next((item for item in containers if item["name"] == container), {})
