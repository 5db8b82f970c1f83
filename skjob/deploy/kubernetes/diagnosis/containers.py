"""Find out why a container is not running: its image, its configuration, its crashes, its memory."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from datetime import datetime

from skjob.deploy.kubernetes.diagnosis.evidence import (
    WORKER,
    CauseKind,
    Evidence,
    Symptom,
    count_of,
    in_words,
    role_of_pod,
    spec_of,
    waiting_state,
)
from skjob.deploy.kubernetes.manifests import Manifest
from skjob.environment.pod.entrypoint import EX_CONFIG
from skjob.utils.units import format_bytes, quantity

_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")

_FATAL_PULL_ERRORS = (
    (
        r"unauthorized|authentication required|no basic auth|pull access denied|\b40[13]\b|denied",
        "give the namespace's service account an image pull secret for this registry, or choose another `--image`",
    ),
    (
        r"no match for platform",
        "the image is for other nodes: `--arch` names their architecture; or choose another `--image`",
    ),
    (
        r"not found|manifest unknown|\b404\b|does not exist",
        "choose an image that exists: `--image`",
    ),
    (r"no such host", "check the registry's name in `--image`: the nodes cannot resolve that host"),
    (r"x509|http response to https", "the nodes must trust the registry's certificate; or choose another `--image`"),
)

_TEMPORARY_PULL_ERROR = re.compile(
    r"time[d-]?\s?out|deadline exceeded|connection (refused|reset)|too ?many ?requests|rate limit|\bEOF\b"
    r"|\b(429|50[0234])\b|temporary failure|server misbehaving|network is unreachable|QPS exceeded|request canceled",
    re.IGNORECASE,
)

_MAX_TEMPORARY_PULL_ERRORS = 4
"""Failures of one pull, within a minute or so, after which the problem is not temporary."""

_MAX_START_SECONDS = 60.0
"""A container that ran longer than this was able to start: what ended it is the program's own problem."""

_MAX_RESTARTS = 2
"""Restarts of a container that ends quickly, after which the next will not do better."""

_MAX_MEMORY_RESTARTS = 1
"""Restarts of a container that needs too much memory to start: it will not need less the next time."""

_LOG_LINES = 12

_FATAL_LOG = re.compile(
    r"ModuleNotFoundError|ImportError|SyntaxError|No module named|No such (option|command)|unrecognized arguments"
    r"|No matching distribution"
)

_LOG_ERROR = re.compile(r"^\s*(\S*(Error|Exception)\b.*|ERROR: .*|.*No module named .*)$")


def of_container(pod: Manifest, container: Manifest, evidence: Evidence) -> Iterator[Symptom]:
    """Yield why a container is not running, according to its status."""
    waiting = waiting_state(container)
    ended = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}
    image = container.get("image") or spec_of(pod, container["name"]).get("image", "")
    words = f"{waiting.get('message', '')} {ended.get('message', '')}"
    if waiting.get("reason") in _IMAGE_REASONS:
        requested_image = str(spec_of(pod, container["name"]).get("image", image))
        yield _image(pod, waiting, requested_image, evidence)
    elif command := re.search(r'exec: "([^"]+)": (.+?)(?:: unknown)?$', words.strip()):
        problem = "has no command" if "not found" in command[2] or "no such file" in command[2] else "cannot run"
        hint = "choose an image with Python, dask and what the program imports: `--image`; `skjob doctor` checks one"
        yield CauseKind.COMMAND, f"the image `{image}` {problem} `{command[1]}`", hint, True
    elif waiting.get("reason") == "CreateContainerConfigError":
        yield _configuration(image, waiting)
    elif waiting.get("reason") in ("CreateContainerError", "RunContainerError") or ended.get("reason") == "StartError":
        hint = "`kubectl describe pod` shows more; `--image` chooses another image"
        text = f"the container cannot be started: {in_words(words)}"
        yield CauseKind.CONFIGURATION, text, hint, container.get("restartCount", 0) >= _MAX_RESTARTS
    elif ended.get("reason") == "OOMKilled":
        limit = spec_of(pod, container["name"]).get("resources", {}).get("limits", {}).get("memory", "")
        of = f" of {format_bytes(quantity(limit))}" if limit else ""
        text = f"killed for using more memory than its limit{of}"
        hint = "give each worker more memory with `--worker-memory`, or fit fewer models in it at a time"
        yield CauseKind.OUT_OF_MEMORY, text, hint, _is_loop(container, ended, _MAX_MEMORY_RESTARTS)
    elif ended.get("exitCode") == EX_CONFIG and ended.get("message"):
        hint = "run it again: the image will be inspected again; or use it as it is with `--env none`"
        yield CauseKind.ENVIRONMENT, in_words(ended["message"], 4000), hint, True
    elif ended.get("exitCode") and not _log_is_pending(pod, container, evidence):
        yield _crash(pod, container, ended, evidence)


def _image(pod: Manifest, waiting: Manifest, image: str, evidence: Evidence) -> Symptom:
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
        words += f"; the pull secret {missing} does not exist"
    if reason == "InvalidImageName":
        return CauseKind.IMAGE, f"`{image}` is not the name of an image", "correct `--image`", True
    if reason == "ErrImageNeverPull" or image.startswith("localhost/"):
        text = f"the image `{image}` is not on the node: {words}"
        hint = f"load it onto every node, with kind: `kind load docker-image {image}`; or choose another `--image`"
        return CauseKind.IMAGE, text, hint, True
    # The image's own name must not be mistaken for an error.
    plain = words.replace(image, "")
    text = f"the image `{image}` cannot be pulled: {words or reason}"
    attempts = sum(count_of(event) for event in failures)
    temporary = bool(_TEMPORARY_PULL_ERROR.search(plain))
    if missing and not temporary:
        hint = f"create {missing} in the namespace (`kubectl create secret docker-registry`), or fix the service"
        return CauseKind.IMAGE, text, f"{hint} account that names it", True
    for pattern, hint in _FATAL_PULL_ERRORS:
        if not temporary and re.search(pattern, plain, re.IGNORECASE):
            return CauseKind.IMAGE, text, hint, True
    if temporary:
        hint = "Kubernetes retries; if the problem persists, choose an image from another registry with `--image`"
        return CauseKind.IMAGE, text, hint, attempts >= _MAX_TEMPORARY_PULL_ERRORS
    return (
        CauseKind.IMAGE,
        text,
        "choose an image that the nodes can pull: `--image`",
        (reason != "ErrImagePull" or attempts > 1),
    )


def _missing_secrets(pod: Manifest, evidence: Evidence) -> str:
    """Return the pull secrets that the pod needs and the namespace lacks, in backticks."""
    for event in evidence.of(pod["metadata"]["name"], "FailedToRetrieveImagePullSecret")[-1:]:
        if named := re.search(r"secrets? \(([^)]+)\)", event.get("message", "")):
            return ", ".join(f"`{name.strip()}`" for name in named[1].split(","))
    return ""


_PULL_LAYERS = re.compile(
    r'^(?:(?:Failed to pull|Back-off pulling|failed to pull and unpack|failed to resolve) (?:image|reference) "[^"]*": '
    r"|ErrImagePull: |rpc error: code = \w+ desc = )+"
)


def _pull_words(message: str) -> str:
    """Return what the registry reported, without the layers that passed it on."""
    return in_words(_PULL_LAYERS.sub("", message))


def _configuration(image: str, waiting: Manifest) -> Symptom:
    words = in_words(waiting.get("message", ""))
    hint = "`kubectl describe pod` shows more"
    if "runAsNonRoot" in words or "non-root" in words:
        hint = f"`{image}` runs as root: choose an image with a numeric `USER`, with `--image`"
    return CauseKind.CONFIGURATION, f"the container cannot be created: {words}", hint, True


def _crash(pod: Manifest, container: Manifest, ended: Manifest, evidence: Evidence) -> Symptom:
    log = evidence.logs.get(pod["metadata"]["name"], "")
    lines = [match[1] for line in log.splitlines() if (match := _LOG_ERROR.match(line))]
    log_is_fatal = bool(lines) and bool(_FATAL_LOG.search(lines[-1]))
    code = ended["exitCode"]
    text = f"the container `{container['name']}` ended with {_exit(code)}" + (
        f": {in_words(lines[-1])}" if lines else ""
    )
    hint = f"`kubectl logs {pod['metadata']['name']} --previous` shows what it wrote"
    if log_is_fatal or code in (126, 127):
        hint = "choose an image that has it: `--image`; `skjob doctor` compares an image with this machine"
    if "No matching distribution" in text:
        hint = "pods must reach the package index; or choose an image that has everything: `--image`"
    blameless = role_of_pod(pod) == WORKER and evidence.scheduler_missing
    fatal = log_is_fatal or code in (126, 127) or (_is_loop(container, ended) and not blameless)
    return CauseKind.CRASHED, text, hint, fatal and not container.get("ready", False)


def _log_is_pending(pod: Manifest, container: Manifest, evidence: Evidence) -> bool:
    """Return whether a container has just ended, so that its node may not have the log yet; the next check finds it."""
    return evidence.logs.get(pod["metadata"]["name"]) == "" and container.get("restartCount", 0) < _MAX_RESTARTS


def last_lines(log: str) -> str:
    """Return the last lines of a container's log, as many as a person reads."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    return "\n".join(line if len(line) <= 200 else f"{line[:199]}…" for line in lines[-_LOG_LINES:])


def _is_loop(container: Manifest, ended: Manifest, restarts: int = _MAX_RESTARTS) -> bool:
    """Return whether the container keeps ending soon after it started."""
    if container.get("ready") or container.get("restartCount", 0) < restarts:
        return False
    try:
        lifetime = datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])
    except (KeyError, TypeError, ValueError):
        return True
    return lifetime.total_seconds() < _MAX_START_SECONDS


def _exit(code: int) -> str:
    try:
        return f"signal {signal.Signals(code - 128).name}" if code > 128 else f"exit code {code}"
    except ValueError:
        return f"exit code {code}"
