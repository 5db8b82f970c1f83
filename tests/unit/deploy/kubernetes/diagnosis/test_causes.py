"""Test causes of pods that do not run: from what Kubernetes 1.34 reports to the message for the user."""

from __future__ import annotations

from typing import Any

import pytest

from skjob.deploy.kubernetes.diagnosis.capacity import best_node, requests
from skjob.deploy.kubernetes.diagnosis.causes import Cause, diagnose
from skjob.deploy.kubernetes.diagnosis.evidence import CauseKind
from skjob.utils.units import format_bytes, format_cpus

pytestmark = pytest.mark.unit

Manifest = dict[str, Any]

CLUSTER = "skjob-train-3f9a1c"
IMAGE = "registry.example.org/team/image:1"
GIB = 2**30


# --- what the API returns


def pod(role: str = "worker", number: int = 1, **status: Any) -> Manifest:
    name = f"{CLUSTER}-scheduler-7d9f" if role == "scheduler" else f"{CLUSTER}-default-worker-{number:010x}-5b4c"
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"dask.org/component": role, "dask.org/cluster-name": CLUSTER},
            "ownerReferences": [{"kind": "ReplicaSet", "name": name.rsplit("-", 1)[0]}],
        },
        "spec": {
            "nodeName": "kind-worker",
            "containers": [
                {
                    "name": role,
                    "image": IMAGE,
                    "resources": {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi"}},
                }
            ],
        },
        "status": {"phase": "Pending", "conditions": [], **status},
    }


def container(role: str = "worker", *, restarts: int = 0, ready: bool = False, **states: Any) -> Manifest:
    """Return a pod with one container, with `state` and `lastState` as the kubelet reports them."""
    return {"name": role, "image": IMAGE, "ready": ready, "restartCount": restarts, "lastState": {}, **states}


def waits(reason: str, message: str = "", role: str = "worker", **more: Any) -> Manifest:
    state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
    return pod(role, containerStatuses=[container(role, state=state, **more)])


def ended(code: int, reason: str = "Error", *, seconds: int = 1, message: str = "") -> Manifest:
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": "2026-11-23T16:00:00Z",
            "finishedAt": f"2026-11-23T16:{seconds // 60:02d}:{seconds % 60:02d}Z",
        }
    }


def crashed(code: int, *, restarts: int, role: str = "worker", **last: Any) -> Manifest:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
    return pod(
        role,
        containerStatuses=[container(role, restarts=restarts, state=state, lastState=ended(code, **last))],
    )


def runs(role: str = "worker", number: int = 1) -> Manifest:
    state = {"running": {"startedAt": "2026-11-23T16:00:00Z"}}
    return pod(role, number, phase="Running", containerStatuses=[container(role, ready=True, state=state)])


def unschedulable(message: str, reason: str = "Unschedulable", number: int = 1) -> Manifest:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod("worker", number, conditions=[condition])


def event(about: Manifest | str, reason: str, message: str, *, count: int = 1, kind: str = "Pod") -> Manifest:
    name = about if isinstance(about, str) else about["metadata"]["name"]
    return {
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "count": count,
        "lastTimestamp": "2026-11-23T16:00:10Z",
    }


def node(name: str, cpu: str = "2", memory: str = "8131440Ki", *, ready: str = "True", **spec: Any) -> Manifest:
    return {
        "metadata": {"name": name},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": "110"},
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
        },
    }


CONTROL_PLANE = node(
    "kind-control-plane",
    "16",
    "64Gi",
    taints=[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
)


def one(causes: list[Cause]) -> Cause:
    assert len(causes) == 1, causes
    return causes[0]


# --- images

PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
PULLS = [
    # the kubelet's message, the user's message, whether it is fatal at once
    (f"{IMAGE}: not found", "not found", True),
    ("unexpected status from HEAD request to https://r/v2: 401 Unauthorized", "401 Unauthorized", True),
    ("pull access denied, repository does not exist or may require authorization", "pull access denied", True),
    ("failed to do request: dial tcp: lookup r.example on [::1]:53: no such host", "no such host", True),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "x509", True),
    ("no match for platform in manifest: not found", "no match for platform", True),
    ("failed to do request: dial tcp 10.0.0.1:443: i/o timeout", "i/o timeout", False),
    ("failed to do request: dial tcp 10.0.0.1:443: connect: connection refused", "connection refused", False),
    ("unexpected status from HEAD request to https://r/v2: 503 Service Unavailable", "503", False),
    ("429 Too Many Requests - toomanyrequests: you have reached your pull rate limit", "429", False),
    ("net/http: TLS handshake timeout", "TLS handshake timeout", False),
    ("lookup r.example on 10.0.0.2:53: server misbehaving", "server misbehaving", False),
]


@pytest.mark.parametrize(("words", "told", "fatal"), PULLS)
def test_an_image_that_can_not_be_pulled_is_fatal_unless_the_trouble_may_pass(
    words: str, told: str, fatal: bool
) -> None:
    cause = one(diagnose([waits("ErrImagePull", PULL + words)], []))
    assert cause.kind is CauseKind.IMAGE
    assert cause.message.startswith(f"the image `{IMAGE}` cannot be pulled: ")
    assert told in cause.message
    assert "failed to pull and unpack" not in cause.message
    assert "--image" in cause.hint
    assert cause.fatal is fatal


def test_the_words_of_a_back_off_are_taken_from_the_event_where_the_container_has_none() -> None:
    stuck = waits("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    failed = event(
        stuck, "Failed", f'Failed to pull image "{IMAGE}": rpc error: code = NotFound desc = {PULL}not found'
    )
    cause = one(diagnose([stuck], [failed, event(stuck, "Failed", "Error: ImagePullBackOff")]))
    assert cause == Cause(
        CauseKind.IMAGE,
        f"the image `{IMAGE}` cannot be pulled: not found (1 worker)",
        "choose an image that exists: `--image`",
        True,
        f"Pod/{stuck['metadata']['name']}",
        f"the image `{IMAGE}` cannot be pulled: not found",
    )


def test_a_pull_secret_that_is_not_there() -> None:
    stuck = waits("ErrImagePull", f"{PULL}pull access denied, repository does not exist or may require authorization")
    words = "Unable to retrieve some image pull secrets (regcred, other); attempting to pull the image may not succeed."
    cause = one(diagnose([stuck], [event(stuck, "FailedToRetrieveImagePullSecret", words)]))
    assert cause.message.endswith("; the pull secret `regcred`, `other` does not exist (1 worker)")
    assert "kubectl create secret docker-registry" in cause.hint
    assert cause.fatal


def test_the_words_of_a_back_off_are_its_own_in_newer_kubernetes() -> None:
    message = f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULL}no such host'
    assert "cannot be pulled: no such host (" in one(diagnose([waits("ImagePullBackOff", message)], [])).message


@pytest.mark.parametrize(("attempts", "fatal"), [(1, False), (3, False), (4, True)])
def test_a_registry_that_stays_away_becomes_fatal(attempts: int, fatal: bool) -> None:
    stuck = waits("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"')
    failed = event(stuck, "Failed", f'Failed to pull image "{IMAGE}": {PULL}i/o timeout', count=attempts)
    assert one(diagnose([stuck], [failed])).fatal is fatal


@pytest.mark.parametrize(("reason", "fatal"), [("ErrImagePull", False), ("ImagePullBackOff", True)])
def test_a_failure_in_unknown_words_gets_a_second_chance(reason: str, fatal: bool) -> None:
    assert one(diagnose([waits(reason, "the registry is having lunch")], [])).fatal is fatal


def test_the_name_of_an_image_is_not_its_trouble() -> None:
    stuck = waits("ErrImagePull", "registry.example.org/team/timeout:1: not found")
    stuck["spec"]["containers"][0]["image"] = "registry.example.org/team/timeout:1"
    assert one(diagnose([stuck], [])).fatal


def test_an_image_that_never_was_loaded_onto_the_node() -> None:
    message = f'Container image "{IMAGE}" is not present with pull policy of Never'
    cause = one(diagnose([waits("ErrImageNeverPull", message)], []))
    assert f"the image `{IMAGE}` is not on the node" in cause.message
    assert f"`kind load docker-image {IMAGE}`" in cause.hint
    assert cause.fatal


def test_a_name_that_no_image_can_have() -> None:
    cause = one(diagnose([waits("InvalidImageName", "couldn't parse image name: invalid reference format")], []))
    assert cause.message == f"`{IMAGE}` is not the name of an image (1 worker)"
    assert cause.fatal


# --- nodes

NO_ROOM = (
    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. "
    "no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)


def test_full_nodes_are_waited_for() -> None:
    cause = one(diagnose([unschedulable(NO_ROOM)], []))
    assert cause.kind is CauseKind.UNSCHEDULABLE
    assert cause.message == (
        "no node has room for a worker of 0.5 CPUs and 2 GiB: 0/3 nodes are available: 1 node(s) had untolerated "
        "taint(s), 2 Insufficient cpu; waiting for room (1 worker)"
    )
    assert not cause.fatal


def test_a_size_that_no_node_has_is_told_with_the_largest() -> None:
    large = unschedulable(NO_ROOM)
    large["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1k"
    cause = one(diagnose([large], [], nodes=[CONTROL_PLANE, node("kind-worker"), node("kind-worker2", "1")]))
    assert cause.message == (
        "no node can hold a worker of 1000 CPUs; the largest, `kind-worker`, has 2 CPUs and 7.8 GiB; "
        "waiting for room (1 worker)"
    )
    assert cause.hint == "request less with `--worker-cpu` and `--worker-memory`, or add a larger node"
    assert not cause.fatal


def test_what_is_free_is_told_to_those_who_may_see_it() -> None:
    busy = pod(number=7)
    free = pod(number=8) | {"spec": {**busy["spec"], "nodeName": "kind-worker2"}}
    nodes = [node("kind-worker"), node("kind-worker2", "1")]
    assert (
        "; the largest free capacity is 1.5 CPUs and 5.8 GiB, on `kind-worker`; waiting"
        in one(diagnose([unschedulable(NO_ROOM)], [], nodes=nodes, others=[busy, free])).message
    )


def test_workers_that_wait_for_room_are_one_cause_whatever_the_words() -> None:
    other = unschedulable(NO_ROOM.replace("2 Insufficient cpu", "2 Insufficient memory"), number=2)
    cause = one(diagnose([unschedulable(NO_ROOM), other], []))
    assert cause.message.endswith("waiting for room (2 workers)")
    assert cause.topic == one(diagnose([other], [])).topic


def test_what_the_autoscaler_does_is_told() -> None:
    waiting = unschedulable(NO_ROOM)
    grows = event(waiting, "TriggeredScaleUp", "pod triggered scale-up: [{pool 1->2 (max: 3)}]")
    assert "; the cluster's autoscaler is adding a node (" in one(diagnose([waiting], [grows])).message
    stays = event(waiting, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
    assert "adds no node: pod didn't trigger scale-up: 1 max" in one(diagnose([waiting], [stays])).message


def test_a_queue_that_holds_a_pod_back() -> None:
    held = unschedulable("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")
    assert "for a queue of this cluster to admit it" in one(diagnose([held], [])).message


def test_a_node_that_went_away_is_fatal_for_the_scheduler_alone() -> None:
    causes = diagnose([runs("scheduler"), runs()], [], nodes=[node("kind-worker", ready="Unknown")])
    assert one(causes).message == "the node `kind-worker` does not answer (scheduler and 1 worker)"
    assert one(causes).fatal
    assert not one(diagnose([runs()], [], nodes=[node("kind-worker", ready="Unknown")])).fatal


def test_an_evicted_worker_comes_back() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    cause = one(diagnose([evicted], []))
    assert cause.kind is CauseKind.EVICTED
    assert "Evicted: The node was low on resource: memory (1 worker)" in cause.message
    assert not cause.fatal


def test_a_scheduler_that_is_evicted_comes_back_once() -> None:
    words = "Pod ephemeral local storage usage exceeds 1Mi"
    evicted = pod("scheduler", phase="Failed", reason="Evicted", message=words)
    assert not one(diagnose([evicted, runs()], [event(evicted, "Evicted", words)])).fatal
    another = f"{CLUSTER}-scheduler-7d9f-another"
    cause = diagnose([evicted], [event(another, "Evicted", words)])[0]
    assert cause.fatal
    assert "/tmp" in cause.hint


def test_an_eviction_is_told_by_its_event_where_the_pod_says_that_it_succeeded() -> None:
    ended_well = pod(phase="Succeeded")
    told = event(
        ended_well, "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 16Mi. "
    )
    told["source"] = {"host": "kind-worker"}
    cause = one(diagnose([ended_well, runs(number=2)], [told], cluster=CLUSTER))
    assert cause.message == (
        "the node `kind-worker` ended the pod: Evicted: Pod ephemeral local storage usage exceeds the total limit of"
        " containers 16Mi (1 worker)"
    )
    assert not cause.fatal


def test_a_preempted_worker() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "preempting",
    }
    gone = runs() | {"status": runs()["status"] | {"conditions": [condition]}}
    assert one(diagnose([gone], [])).kind is CauseKind.EVICTED


def test_a_volume_that_can_not_be_mounted_yet() -> None:
    stuck = waits("ContainerCreating")
    mount = event(stuck, "FailedMount", 'MountVolume.SetUp failed for volume "tls" : secret "x" not found', count=6)
    cause = one(diagnose([stuck], [mount]))
    assert cause.kind is CauseKind.CONFIGURATION
    assert 'secret "x" not found' in cause.message
    assert not cause.fatal


# --- pods that the API rejects


@pytest.mark.parametrize(
    "words",
    [
        '0/3 nodes are available: persistentvolumeclaim "data" not found',
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims",
    ],
)
def test_a_claim_that_is_not_there_is_no_lack_of_room(words: str) -> None:
    cause = one(diagnose([unschedulable(f"{words}. preemption: 0/3 nodes are available")], []))
    assert (cause.kind, cause.fatal) == (CauseKind.CONFIGURATION, False)
    assert cause.message == f"a volume of the pod does not exist: {words} (1 worker)"
    assert "ask your platform team to create it" in cause.hint


REJECTIONS = [
    (
        "exceeded quota: small, requested: limits.memory=2Gi, used: limits.memory=0, limited: limits.memory=1Gi",
        "resourcequota",
        True,
    ),
    (
        "failed quota: small: must specify limits.cpu for: worker",
        "a LimitRange in the namespace can set defaults",
        True,
    ),
    ("unable to create new content in namespace team because it is being terminated", "is being deleted", True),
    ("ValidatingAdmissionPolicy 'ours' with binding 'ours' denied request: no", "platform team", True),
    ("maximum memory usage per Container is 1Gi, but limit is 2Gi", "--worker-memory", True),
    ('violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false', "pod security level", True),
    ('admission webhook "policy.example.org" denied the request: no', "platform team", True),
    ('failed calling webhook "policy.example.org": context deadline exceeded', "platform team", False),
    (
        'error looking up service account a/b: serviceaccount "b" not found',
        "ask your platform team to create it",
        False,
    ),
]


@pytest.mark.parametrize(("words", "hint", "fatal"), REJECTIONS)
def test_pods_that_the_api_refuses(words: str, hint: str, fatal: bool) -> None:
    owner = f"{CLUSTER}-default-worker-0000000001-5b4c"
    message = f'Error creating: pods "{owner}-x" is forbidden: {words}'
    refused = [event(owner, "FailedCreate", message, kind="ReplicaSet")]
    cause = one(diagnose([runs("scheduler")], refused, cluster=CLUSTER))
    assert cause.kind is CauseKind.REJECTED
    assert cause.message == f"the API rejects the pod: {words} (1 worker)"
    assert hint in cause.hint
    assert cause.fatal is fatal
    assert cause.object == f"ReplicaSet/{owner}"


@pytest.mark.parametrize(
    ("numbers", "fatal"),
    [
        # a scheduler and a worker fit, whether other runs' pods use the rest or this run's
        ("requested: pods=1, used: pods=2, limited: pods=2", False),
        ("requested: pods=1, used: pods=1, limited: pods=1", True),
        ("requested: count/pods=1,limits.memory=2Gi, used: count/pods=9,limits.memory=3Gi, limited: pods=9", False),
        ("requested: limits.memory=2Gi, used: limits.memory=2Gi, limited: limits.memory=3Gi", True),
        ("requested: limits.memory=2Gi, used: limits.memory=4Gi, limited: limits.memory=4Gi", False),
        ("requested: requests.cpu=500m, used: requests.cpu=500m, limited: requests.cpu=800m", True),
        ("requested: cpu=500m, used: cpu=1, limited: cpu=1", False),
        ("requested: requests.example.org/gpu=1, used: requests.example.org/gpu=1, limited: x=1", False),
    ],
)
def test_a_quota_that_is_full_empties_and_one_that_is_small_does_not_grow(numbers: str, fatal: bool) -> None:
    message = f"Error creating: pods is forbidden: exceeded quota: small, {numbers}"
    refused = [event(f"{CLUSTER}-default-worker-0000000002-5b4c", "FailedCreate", message, kind="ReplicaSet")]
    cause = one(diagnose([runs("scheduler")], refused))
    assert cause.fatal is fatal
    assert cause.message.endswith("; waiting for other runs to free it (1 worker)") is not fatal
    assert cause.topic == "quota small"


def test_bytes_are_told_as_people_write_them() -> None:
    message = (
        "Error creating: pods is forbidden: exceeded quota: q, requested: limits.memory=536870912,pods=1,"
        " used: limits.memory=1610612736,pods=2, limited: pods=9000001"
    )
    refused = [event(f"{CLUSTER}-scheduler-5b4c", "FailedCreate", message, kind="ReplicaSet")]
    assert (
        "requested: limits.memory=512Mi,pods=1, used: limits.memory=1.5Gi,pods=2, limited: pods=9000001"
        in one(diagnose([], refused)).message
    )


def test_a_rejection_that_is_over_is_no_news() -> None:
    running = runs()
    owner = running["metadata"]["ownerReferences"][0]["name"]
    assert diagnose([running], [event(owner, "FailedCreate", "exceeded quota", kind="ReplicaSet")]) == []


def test_other_clusters_events_are_not_ours() -> None:
    other = event("skjob-other-111111-scheduler-7d9f", "FailedCreate", "exceeded quota", kind="ReplicaSet")
    assert diagnose([], [other], cluster=CLUSTER) == []


@pytest.mark.parametrize(
    ("about", "ours"),
    [
        ("dev-scheduler-7d9f8c", True),
        ("dev-default-worker-0123456789-5b4c", True),
        ("dev-x7k2p", True),  # a Job's pod
        ("dev", True),
        ("dev-2-scheduler-7d9f8c", False),
        ("dev-2-default-worker-0123456789-5b4c", False),
        ("dev2-scheduler-7d9f8c", False),
    ],
)
def test_a_cluster_whose_name_begins_like_anothers(about: str, ours: bool) -> None:
    refused = event(about, "FailedCreate", "Error creating: exceeded quota: small", kind="ReplicaSet")
    assert bool(diagnose([], [refused], cluster="dev")) is ours


@pytest.mark.parametrize(
    ("since", "told"), [("", True), ("2026-11-23T16:00:10Z", True), ("2026-11-23T16:00:11Z", False)]
)
@pytest.mark.parametrize("when", [{}, {"lastTimestamp": None, "eventTime": "2026-11-23T16:00:10.123456Z"}])
def test_what_held_an_earlier_cluster_of_the_same_name_is_no_news(since: str, told: bool, when: Manifest) -> None:
    refused = event("dev-scheduler-7d9f8c", "FailedCreate", "exceeded quota: small", kind="ReplicaSet") | when
    assert bool(diagnose([], [refused], cluster="dev", since=since)) is told


# --- containers


@pytest.mark.parametrize("started", [False, True])
def test_a_command_that_the_image_does_not_have(started: bool) -> None:
    words = (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
        'unable to start container process: exec: "dask-scheduler": executable file not found in $PATH: unknown'
    )
    broken = waits("RunContainerError", words, "scheduler")
    if started:
        broken = crashed(128, restarts=1, role="scheduler", reason="StartError", message=words)
    cause = one(diagnose([broken], []))
    assert cause.message == f"the image `{IMAGE}` has no command `dask-scheduler` (scheduler)"
    assert cause.kind is CauseKind.COMMAND
    assert cause.fatal


def test_a_configuration_that_can_not_work() -> None:
    cause = one(diagnose([waits("CreateContainerConfigError", 'secret "x" not found')], []))
    assert cause.message == 'the container cannot be created: secret "x" not found (1 worker)'
    assert cause.fatal


def test_an_image_that_runs_as_root() -> None:
    words = "container has runAsNonRoot and image will run as root"
    assert "runs as root" in one(diagnose([waits("CreateContainerConfigError", words)], [])).hint


@pytest.mark.parametrize(("restarts", "seconds", "fatal"), [(0, 1, False), (1, 1, False), (2, 1, True), (2, 90, False)])
def test_a_container_that_ends_again_and_again(restarts: int, seconds: int, fatal: bool) -> None:
    cause = one(diagnose([crashed(1, restarts=restarts, seconds=seconds)], []))
    assert cause.kind is CauseKind.CRASHED
    assert cause.message == "the container `worker` ended with exit code 1 (1 worker)"
    assert cause.fatal is fatal


def test_workers_are_not_to_blame_while_there_is_no_scheduler() -> None:
    assert not one(
        [
            cause
            for cause in diagnose([waits("ContainerCreating", role="scheduler"), crashed(1, restarts=5)], [])
            if cause.kind is CauseKind.CRASHED
        ]
    ).fatal


@pytest.mark.parametrize(
    "last_line",
    [
        "ModuleNotFoundError: No module named 'sklearn'",
        "/usr/local/bin/python: No module named dask",
        "ERROR: No matching distribution found for nonesuch==1.0",
    ],
)
def test_an_import_that_fails_is_fatal_at_once(last_line: str) -> None:
    broken = crashed(1, restarts=0)
    log = f'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n{last_line}\n'
    cause = one(diagnose([broken], [], logs={broken["metadata"]["name"]: log}))
    assert cause.message == f"the container `worker` ended with exit code 1: {last_line} (1 worker)"
    assert "--image" in cause.hint
    assert cause.fatal


def test_the_last_lines_of_a_container_that_ends_again_and_again() -> None:
    broken = crashed(1, restarts=2)
    log = "\n\n".join([*(f"line {number}" for number in range(20)), "x" * 300, "ValueError: no"])
    cause = one(diagnose([broken], [], logs={broken["metadata"]["name"]: log}))
    lines = cause.log.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (12, "line 10", "ValueError: no")
    assert max(map(len, lines)) == 200
    assert cause.message == "the container `worker` ended with exit code 1: ValueError: no (1 worker)"


@pytest.mark.parametrize(("restarts", "told"), [(0, False), (1, False), (2, True)])
def test_a_container_whose_log_is_not_there_yet_is_told_when_it_is(restarts: int, told: bool) -> None:
    broken = crashed(1, restarts=restarts)
    assert bool(diagnose([broken], [], logs={broken["metadata"]["name"]: ""})) is told


def test_a_container_that_recovered_is_no_reason_to_end() -> None:
    recovered = runs()
    recovered["status"]["containerStatuses"][0] |= {"restartCount": 5, "lastState": ended(1)}
    assert not one(diagnose([recovered], [])).fatal


def test_a_signal_has_a_name() -> None:
    assert "ended with signal SIGSEGV" in one(diagnose([crashed(139, restarts=1)], [])).message


@pytest.mark.parametrize(("restarts", "fatal"), [(0, False), (1, True), (2, True)])
def test_a_container_that_used_too_much_memory(restarts: int, fatal: bool) -> None:
    cause = one(diagnose([crashed(137, restarts=restarts, reason="OOMKilled")], []))
    assert cause.kind is CauseKind.OUT_OF_MEMORY
    assert cause.message == "killed for using more memory than its limit of 2 GiB (1 worker)"
    assert "--worker-memory" in cause.hint
    assert cause.fatal is fatal


def test_the_last_state_of_a_running_container_tells_of_memory_too() -> None:
    recovered = runs()
    recovered["status"]["containerStatuses"][0] |= {"restartCount": 1, "lastState": ended(137, "OOMKilled")}
    assert one(diagnose([recovered], [])).kind is CauseKind.OUT_OF_MEMORY


def test_an_init_container_that_fails() -> None:
    stuck = waits("PodInitializing")
    failed = {"name": "environment", "image": IMAGE, "restartCount": 2, "state": ended(1), "lastState": {}}
    stuck["status"]["initContainerStatuses"] = [failed]
    cause = one(diagnose([stuck], []))
    assert cause.message == "the container `environment` ended with exit code 1 (1 worker)"
    assert cause.fatal


# --- combinations


def test_nothing_is_wrong() -> None:
    assert diagnose([runs("scheduler"), runs()], [event(runs(), "Started", "Started container worker")]) == []


def test_twenty_pods_with_one_trouble_are_one_cause() -> None:
    message = f'Back-off pulling image "{IMAGE}": ErrImagePull: not found'
    pods = [waits("ImagePullBackOff", message, "scheduler")]
    for number in range(20):
        stuck = waits("ImagePullBackOff", message)
        stuck["metadata"]["name"] = f"{CLUSTER}-default-worker-{number:010x}-5b4c"
        pods.append(stuck)
    assert one(diagnose(pods, [])).message == (
        f"the image `{IMAGE}` cannot be pulled: not found (scheduler and 20 workers)"
    )


def test_what_is_fatal_comes_first() -> None:
    causes = diagnose([unschedulable(NO_ROOM, number=7), waits("InvalidImageName")], [])
    assert [cause.fatal for cause in causes] == [True, False]


def test_pods_on_their_way_out_are_not_asked() -> None:
    leaving = waits("ErrImagePull", "not found")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T16:00:00Z"
    assert diagnose([leaving], []) == []


# --- what nodes can hold


def test_the_largest_node_is_the_one_that_comes_nearest() -> None:
    nodes = [CONTROL_PLANE, node("cores", "32", "8Gi"), node("memory", "4", "256Gi")]
    fit = best_node(nodes, 8, 100 * GIB)
    assert not fit.fits
    assert (fit.nodes, fit.largest) == (2, "memory")
    assert fit.message == "no node can hold a worker of 8 CPUs; the largest, `memory`, has 4 CPUs and 256 GiB"
    assert best_node(nodes, 1, GIB).message == (
        "2 of 2 nodes can hold a worker of 1 CPU and 1 GiB; the largest, `cores`, has 32 CPUs and 8 GiB"
    )


def test_what_daemon_sets_take_is_never_free() -> None:
    agent = pod() | {"metadata": {"name": "agent", "ownerReferences": [{"kind": "DaemonSet", "name": "agent"}]}}
    assert best_node([node("kind-worker")], 2, GIB).fits
    assert not best_node([node("kind-worker")], 2, GIB, pods=[agent]).fits
    assert best_node([node("kind-worker")], 2, GIB, pods=[pod()]).fits


def test_nodes_that_take_no_ordinary_pods() -> None:
    nodes = [CONTROL_PLANE, node("cordoned", unschedulable=True)]
    assert best_node(nodes, 0.1, 1).message == "no node takes a worker: each is cordoned or has a taint"


def test_a_pod_reserves_what_its_largest_moment_takes() -> None:
    large = pod()
    large["spec"]["initContainers"] = [{"name": "environment", "resources": {"limits": {"memory": "3Gi"}}}]
    assert requests(large) == (0.5, 3 * GIB)


@pytest.mark.parametrize(("text", "expected"), [(format_cpus(1), "1 CPU"), (format_bytes(0.5 * GIB), "512 MiB")])
def test_sizes_as_people_write_them(text: str, expected: str) -> None:
    assert text == expected
