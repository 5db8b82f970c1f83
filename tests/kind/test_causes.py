"""Reasons why a run cannot continue: each is provoked on a real Kubernetes, and must be reported to the user.

Each test adds a row to the table of causes, with the seconds from the time at which the API knew the cause (it sent it
to a watch, or answered a request with it) to the line on the run's stderr. Faults of a whole cluster are limited to the
test's namespace or user. Most runs mostly wait for the API, so they run side by side.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uv
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException, NotFoundException
from support.fault_injection import DELAY, DELAYED_LABELS, IMAGE, FakeServers, policy, run_fake_servers, webhook
from support.flaky_network import make_flaky_network
from support.message_timing import (
    ApiTimeline,
    TimedRun,
    ended,
    event,
    running_worker,
    terminating,
    timed_run,
    unscheduled,
    waiting,
)
from support.runs import SEARCHING, Runs
from support.second_api import SecondApi, second_api
from support.side_by_side import Sandbox, ScenarioRunner, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.operator.manifests import custom_resource_definitions, operator_manifests
from skjob.deploy.kubernetes.operator.state import OPERATOR_NAME
from skjob.utils.units import format_cpus, quantity

Row = Callable[..., None]
SHORT_SCRIPT = "from joblib import Parallel, delayed; print(len(Parallel()(delayed(abs)(i) for i in range(4))))"
MARK_STARTED = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    Parallel()(delayed(time.sleep)(0.1) for i in range(8))
    Path("started").touch()
"""
UNTIL_REPORTED = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    while not Path("reported").exists():
        Parallel()(delayed(time.sleep)(0.1) for i in range(8))
"""


class Cause:
    """Runs with one cause: checks the message and adds the row to the table."""

    def __init__(self, runs: Runs, row: Row, kind_api: client.ApiClient, timeline: ApiTimeline | None) -> None:
        self.runs = runs
        self.row = row
        self.kind_api = kind_api
        self._timeline = timeline

    @property
    def namespace(self) -> str:
        return self.runs.namespace

    def first_seen(self, matches: Callable[[dict[str, Any]], bool]) -> float:
        """Return when the API first sent a matching state."""
        assert self._timeline is not None
        return self._timeline.first_seen(matches)

    def run(self, script: str, *options: str, **environment: str) -> Any:
        """Start a run with one worker, unless the options say otherwise: enough to see why it does not start."""
        command = self.runs.command(script, "--workers", "1", *options)
        return timed_run(command, cwd=self.runs.folder, env=self.runs.environment | environment)

    @contextmanager
    def searching(self, *options: str, script: str = SEARCHING, **environment: str) -> Iterator[TimedRun]:
        """Start a run whose program has received results and is searching."""
        started = self.runs.folder / "started"
        with self.run(MARK_STARTED + script, *options, **environment) as run:
            run.until("wait for the first worker: ")
            until(lambda: started.exists() or run.process.poll() is not None, "the program did not start", 120)
            assert started.exists(), run.text
            yield run

    def check(self, run: TimedRun, code: int, words: str, hint: str, since: float, *cells: str) -> None:
        """Check that the run printed a line with `words`, with `hint` in it or in the error's hint.

        Add the row, with the seconds from `since` to that line.
        """
        assert run.wait() == code, run.text
        at, line = run.line(words)
        # A failing script shows a traceback of its own.
        assert code == 1 or not any(line.startswith("Traceback") for _, line in run.lines), run.text
        hints = [line for _, line in run.lines if line.startswith("hint: ")]
        assert hint in f"{line} {hints}", run.text
        seconds = max(0.0, at - since)
        if line.startswith("error: "):
            assert self.runs.record()["outcome"]["cause"] == line.removeprefix("error: ")
        self.row(*cells, seconds, code, line.replace("|", "\\|"))

    def start(
        self,
        cells: tuple[str, str],
        matches: Callable[[dict[str, Any]], bool] | None,
        words: str,
        hint: str,
        *options: str,
        code: int = 124,
        script: str = SHORT_SCRIPT,
        **environment: str,
    ) -> TimedRun:
        """Run to the end, and check the cause. `matches` is None if the API knew it before the run started."""
        with self.run(script, *options, **environment) as run:
            assert run.wait() == code, run.text
        since = run.began if matches is None else self.first_seen(matches)
        self.check(run, code, words, hint, since, *cells)
        return run


@contextmanager
def new_cause(sandbox: Sandbox) -> Iterator[Cause]:
    timeline = ApiTimeline(sandbox.kind_api, sandbox.namespace)
    try:
        yield Cause(sandbox.runs, partial(sandbox.row, "cause_row"), sandbox.kind_api, timeline)
    finally:
        timeline.close()


cause_test = partial(
    side_by_side, setup=new_cause, shared={"fake_servers": lambda runner: run_fake_servers(runner.kind_api)}
)
"""Turns a scenario that takes a `Cause` into a test."""


# --- images


@cause_test
def test_missing_image(cause: Cause, fake_servers: FakeServers) -> None:
    cause.start(
        ("image missing", "a registry that answers 404"),
        waiting("ErrImagePull"),
        "cannot be pulled: ",
        "choose an image that exists: `--image`",
        "--image",
        fake_servers.image("absent/model:1"),
    )


@cause_test
def test_unauthorized_image(cause: Cause, fake_servers: FakeServers) -> None:
    cause.start(
        ("image unauthorized", "a registry that answers 401"),
        waiting("ErrImagePull"),
        "cannot be pulled: ",
        "image pull secret",
        "--image",
        fake_servers.image("private/model:1"),
    )


@cause_test
def test_missing_pull_secret(cause: Cause, fake_servers: FakeServers) -> None:
    core = client.CoreV1Api(cause.kind_api)
    # Kubernetes creates it some time after the namespace.
    accounts = core.list_namespaced_service_account
    until(
        lambda: accounts(cause.namespace, field_selector="metadata.name=default").items,
        "the namespace has no service account",
    )
    core.patch_namespaced_service_account("default", cause.namespace, {"imagePullSecrets": [{"name": "regcred"}]})
    cause.start(
        ("pull secret missing", "the service account names one that is not there"),
        waiting("ErrImagePull"),
        "; the pull secret `regcred` does not exist",
        "create `regcred` in the namespace",
        "--image",
        fake_servers.image("private/model:1"),
    )


@cause_test
def test_image_without_python(cause: Cause) -> None:
    cause.start(
        ("no Python in the image", "the image of `pause`"),
        ended("StartError"),
        "has no command `python`",
        "choose an image with Python",
        "--image",
        "registry.k8s.io/pause:3.10",
    )


@cause_test
def test_image_without_dask(cause: Cause) -> None:
    run = cause.start(
        ("no Dask in the image", "Python's own image, `--env none`"),
        ended(),
        "No module named",
        "choose an image that has it",
        "--image",
        "python:3.11-slim",
    )
    assert "\n  | " in run.text


# --- capacity


@cause_test(waits=True)
def test_worker_larger_than_any_node(cause: Cause) -> None:
    cause.start(
        ("unschedulable", "`--worker-cpu 1000`"),
        unscheduled,
        "no node can hold a worker of 1000 CPUs; the largest, `skjob-worker",
        "request less with `--worker-cpu` and `--worker-memory`",
        "--worker-cpu",
        "1000",
        "--start-timeout",
        "25s",
    )


@cause_test
def test_run_continues_with_workers_that_fit_on_nodes(cause: Cause) -> None:
    """Each worker needs more than half of a node, and there are two nodes for three workers."""
    nodes = [node for node in client.CoreV1Api(cause.kind_api).list_node().items if not node.spec.taints]
    node_cpus = max(quantity(node.status.allocatable["cpu"]) for node in nodes)
    size = round(0.55 * node_cpus, 2)
    # Other scenarios may take so much of both nodes for a while that no worker fits.
    with cause.run(UNTIL_REPORTED, "--workers", "3", "--worker-cpu", str(size), "--start-timeout", "7m") as run:
        run.until(f"no node has room for a worker of {format_cpus(size)}")
        (cause.runs.folder / "reported").touch()
        known_since = cause.first_seen(unscheduled)
        cells = (
            "pending for lack of nodes",
            f"3 workers of {size:g} CPUs on 2 nodes of {node_cpus:g}: continues with 2",
        )
        words = "Insufficient cpu; the largest free capacity is "
        cause.check(run, 0, words, "request fewer or smaller workers", known_since, *cells)
    assert 1 <= max(at["connected"] for at in cause.runs.record()["workers"]) <= 2


def create_quota(api: client.ApiClient, namespace: str, **hard: str) -> None:
    body = {
        "metadata": {"name": "small"},
        "spec": {"hard": {name.replace("_", "."): amount for name, amount in hard.items()}},
    }
    client.CoreV1Api(api).create_namespaced_resource_quota(namespace, body)
    until(lambda: client.CoreV1Api(api).read_namespaced_resource_quota("small", namespace).status.hard)


@cause_test
def test_quota_without_room_for_a_worker(cause: Cause) -> None:
    create_quota(cause.kind_api, cause.namespace, limits_memory="1200Mi")
    cause.start(
        ("ResourceQuota", "room for the scheduler, none for a worker"),
        event("FailedCreate", "exceeded quota"),
        "error: the API rejects the pod: exceeded quota: small, requested: limits.memory=512Mi",
        "`kubectl get resourcequota` shows it",
    )


@cause_test
def test_run_continues_with_workers_that_fit_in_quota(cause: Cause) -> None:
    create_quota(cause.kind_api, cause.namespace, pods="2")
    cells = ("ResourceQuota", "room for one of two workers: continues with it")
    with cause.run(UNTIL_REPORTED, "--workers", "2") as run:
        run.until("; waiting for other runs to free it")
        (cause.runs.folder / "reported").touch()
        known_since = cause.first_seen(event("FailedCreate", "exceeded quota"))
        cause.check(run, 0, "exceeded quota: small, requested: pods=1", "request fewer", known_since, *cells)


@cause_test
def test_quota_of_jobs_exceeded(cause: Cause) -> None:
    create_quota(cause.kind_api, cause.namespace, **{"count/jobs_batch": "0"})
    words = 'error: jobs.batch "skjob-train-'
    cause.start(("ResourceQuota", "no more Jobs"), None, words, "`kubectl get resourcequota` shows it")


@cause_test
def test_quota_requires_cpu_limit(cause: Cause) -> None:
    create_quota(cause.kind_api, cause.namespace, limits_cpu="8")
    cause.start(
        ("ResourceQuota", "it wants a limit of CPU"),
        event("FailedCreate", "must specify"),
        "failed quota: small: must specify limits.cpu",
        "a LimitRange in the namespace can set defaults",
    )


@cause_test
def test_limit_range(cause: Cause) -> None:
    limits = [{"type": "Container", "max": {"memory": "1Gi"}}]
    client.CoreV1Api(cause.kind_api).create_namespaced_limit_range(
        cause.namespace, {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    )
    cause.start(
        ("LimitRange", "at most 1 GiB for a container"),
        event("FailedCreate", "maximum memory"),
        "error: the API rejects the pod: maximum memory usage per Container is 1Gi, but limit is 2Gi",
        "choose `--worker-cpu` and `--worker-memory` within",
        "--worker-memory",
        "2Gi",
    )


# --- admission


@cause_test
def test_pod_security_violation(cause: Cause, fake_servers: FakeServers) -> None:
    """skjob's own pods satisfy the strictest standard, so a webhook changes them."""
    with webhook(cause.kind_api, fake_servers, "/loosen", cause.namespace):
        cause.start(
            ("pod security", "a webhook gives the pods the node's network"),
            event("FailedCreate", "violates PodSecurity"),
            'error: the API rejects the pod: violates PodSecurity "restricted:latest": host namespaces',
            "pod security level",
        )


@cause_test
def test_admission_webhook_rejects_pods(cause: Cause, fake_servers: FakeServers) -> None:
    with webhook(cause.kind_api, fake_servers, "/refuse", cause.namespace):
        cause.start(
            ("admission webhook", "it refuses pods"),
            event("FailedCreate", "denied the request"),
            'admission webhook "policy.example.org" denied the request: pods of this team need an owner',
            "ask your platform team",
        )


@pytest.mark.parametrize(("group", "resource"), [("", "pods"), ("kubernetes.dask.org", "daskclusters")])
@cause_test
def test_admission_policy(cause: Cause, group: str, resource: str) -> None:
    with policy(cause.kind_api, cause.namespace, group, resource):
        cause.start(
            ("ValidatingAdmissionPolicy", f"it refuses {resource}"),
            event("FailedCreate", "denied request") if resource == "pods" else None,
            f"denied request: no {resource} after six o'clock",
            "ask your platform team",
        )


# --- failing pods


@cause_test
def test_crash_loop(cause: Cause, fake_servers: FakeServers) -> None:
    with webhook(cause.kind_api, fake_servers, "/break", cause.namespace):
        run = cause.start(
            ("crash loop", "the pods' certificate authority is not there"),
            ended(),
            "ended with exit code 1: FileNotFoundError",
            "kubectl logs",
        )
    assert "\n  | FileNotFoundError: " in run.text
    assert any("FileNotFoundError" in log for log in cause.runs.record()["logs"].values())


@cause_test
def test_worker_out_of_memory(cause: Cause) -> None:
    script = """
        import time
        from joblib import Parallel, delayed
        def work(i):
            time.sleep(0.2)
            return len(bytearray(i == 0 and 2**29))
        Parallel()(delayed(work)(i) for i in range(60))
    """
    cause.start(
        ("out of memory", "a task that needs 512 MiB on workers of 256"),
        ended("OOMKilled"),
        "killed for using more memory than its limit of 256 MiB",
        "give each worker more memory with `--worker-memory`",
        "--worker-memory",
        "256Mi",
        "--workers",
        "2",
        script=script,
        code=1,
    )


@cause_test
def test_run_continues_after_eviction(cause: Cause) -> None:
    limits = [{"type": "Container", "default": {"ephemeral-storage": "4Mi"}}]
    client.CoreV1Api(cause.kind_api).create_namespaced_limit_range(
        cause.namespace, {"metadata": {"name": "small"}, "spec": {"limits": limits}}
    )
    script = """
        import os, time
        from pathlib import Path
        from joblib import Parallel, delayed
        def work(much):
            time.sleep(0.5)
            for _ in range(much):
                os.write(2, b"." * 1023 + b"\\n")
        Parallel()(delayed(work)(8192 * (i == 0)) for i in range(20))
        while not Path("reported").exists():
            Parallel()(delayed(work)(0) for i in range(4))
    """
    with cause.run(script, "--workers", "2") as run:
        run.until("the node `skjob-worker")
        (cause.runs.folder / "reported").touch()
        known_since = cause.first_seen(event("Evicted"))
        cells = ("evicted", "a worker logs 8 MiB where 4 are allowed: continues")
        cause.check(run, 0, "Evicted: ", "write less to `/tmp` and to the log", known_since, *cells)


# --- the API


@cause_test
def test_namespace_is_being_deleted(cause: Cause) -> None:
    """A finalizer keeps the namespace, as one of another operator would."""
    core = client.CoreV1Api(cause.kind_api)
    kept_object = core.create_namespaced_config_map(
        cause.namespace, {"metadata": {"name": "held", "finalizers": ["example.org/not-yet"]}}
    )
    core.delete_namespace(cause.namespace)
    try:
        cause.start(
            ("namespace being deleted", "before the start"),
            None,
            f"error: the namespace `{cause.namespace}` is being deleted",
            "choose another with `--namespace`",
        )
    finally:
        core.patch_namespaced_config_map(kept_object.metadata.name, cause.namespace, {"metadata": {"finalizers": None}})


@cause_test
def test_namespace_is_deleted_during_run(cause: Cause) -> None:
    """Kubernetes lets the pods run for another five seconds."""
    with cause.searching() as run:
        client.CoreV1Api(cause.kind_api).delete_namespace(cause.namespace)
        run.wait()
        known_since = cause.first_seen(terminating)
        cells = ("namespace being deleted", "during the run; since its pods are terminating")
        cause.check(
            run, 126, f"error: the namespace `{cause.namespace}` is being deleted", "run it again", known_since, *cells
        )


@cause_test
def test_cluster_is_removed_during_run(cause: Cause) -> None:
    with cause.searching() as run:
        [job] = client.BatchV1Api(cause.kind_api).list_namespaced_job(cause.namespace).items
        client.BatchV1Api(cause.kind_api).delete_namespaced_job(
            job.metadata.name, cause.namespace, propagation_policy="Background"
        )
        deleted_at = time.monotonic()
        cells = ("removed by somebody", "its anchor is deleted during the run")
        words = f"error: `{job.metadata.name}` was removed"
        cause.check(run, 126, words, "run it again", deleted_at, *cells)


@contextmanager
def limit_to_one_request(api: client.ApiClient, namespace: str) -> Iterator[None]:
    """Within this block, the API rejects requests of the namespace's user while it serves another of theirs."""
    flow = client.FlowcontrolApiserverV1Api(api)
    name = f"test-{namespace}"
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    subject = {"kind": "ServiceAccount", "serviceAccount": {"name": "somebody", "namespace": namespace}}
    rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    other_paths = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    flow.create_priority_level_configuration(
        {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}}
    )
    try:
        flow.create_flow_schema(
            {
                "metadata": {"name": name},
                "spec": {
                    "matchingPrecedence": 10,
                    "priorityLevelConfiguration": {"name": name},
                    "rules": [{"subjects": [subject], "resourceRules": [rule], "nonResourceRules": [other_paths]}],
                },
            }
        )
        yield
    finally:
        with suppress(ApiException):
            flow.delete_flow_schema(name)
        flow.delete_priority_level_configuration(name)


def create_user(cause: Cause) -> str:
    """Create a user with only skjob's Role; return their kubeconfig."""
    runs = cause.runs
    return user_environment(cause.kind_api, runs.environment, cause.namespace, runs.folder, may_run=True)["KUBECONFIG"]


def client_without_retries(kubeconfig: str) -> client.ApiClient:
    """Return a client that does not retry requests."""
    configuration = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=configuration)
    configuration.retries = False
    return client.ApiClient(configuration)


def poll_statuses(kubeconfig: str, namespace: str) -> Iterator[int]:
    """List pods as this user again and again; yield the status of each response."""
    deadline = time.monotonic() + 60
    with client_without_retries(kubeconfig) as api:
        while time.monotonic() < deadline:
            try:
                client.CoreV1Api(api).list_namespaced_pod(namespace)
            except ApiException as error:
                yield error.status
            else:
                yield 200
            time.sleep(0.05)


@contextmanager
def delayed_requests(kubeconfig: str, namespace: str) -> Iterator[threading.Event]:
    """Make requests as this user that a webhook delays, again and again, until the event is set."""
    delayed = {"metadata": {"generateName": "delayed-", "labels": DELAYED_LABELS}}
    stop = threading.Event()

    def send_requests() -> None:
        with client_without_retries(kubeconfig) as api:
            while not stop.wait(0.1):
                with suppress(Exception):  # the API may throttle these requests as well
                    client.CoreV1Api(api).create_namespaced_config_map(namespace, delayed, dry_run="All")

    thread = threading.Thread(target=send_requests, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(60)


@cause_test
def test_run_continues_after_api_throttling(cause: Cause, fake_servers: FakeServers) -> None:
    """Throttle the first seconds of a start: a webhook delays other requests of the user."""
    kubeconfig = create_user(cause)
    cells = ("API throttling", "Priority and Fairness rejects the user for some seconds: continues")
    with (
        webhook(cause.kind_api, fake_servers, DELAY, cause.namespace),
        limit_to_one_request(cause.kind_api, cause.namespace),
        delayed_requests(kubeconfig, cause.namespace) as stop,
    ):
        # The API takes a moment, longer on a busy machine, to apply the webhook and the priority level.
        assert 429 in poll_statuses(kubeconfig, cause.namespace)
        with cause.run(SHORT_SCRIPT, KUBECONFIG=kubeconfig) as run:
            run.until("is throttling requests (429); retrying")
            stop.set()
            client.FlowcontrolApiserverV1Api(cause.kind_api).delete_flow_schema(f"test-{cause.namespace}")
            cause.check(run, 0, "is throttling requests (429); retrying", "", run.began, *cells)


@cause_test
def test_rejected_credentials(cause: Cause) -> None:
    kubeconfig = create_user(cause)
    client.CoreV1Api(cause.kind_api).delete_namespaced_service_account("somebody", cause.namespace)
    next(status for status in poll_statuses(kubeconfig, cause.namespace) if status == 401)
    cells = ("credentials not accepted", "the user's ServiceAccount was deleted")
    words = "error: the Kubernetes API of context `kind-skjob` does not accept its credentials"
    cause.start(cells, None, words, "log in again", code=121, KUBECONFIG=kubeconfig)


@cause_test
def test_run_continues_after_new_login(cause: Cause) -> None:
    """The user logs in again, which changes the kubeconfig, and the run continues with the new credentials."""
    kubeconfig = create_user(cause)
    core = client.CoreV1Api(cause.kind_api)
    original = Path(kubeconfig).read_text()
    with cause.searching(KUBECONFIG=kubeconfig, script=UNTIL_REPORTED) as run:
        core.delete_namespaced_service_account("somebody", cause.namespace)
        next(status for status in poll_statuses(kubeconfig, cause.namespace) if status == 401)
        rejected_at = time.monotonic()
        words = "does not accept its credentials: Unauthorized"
        run.until(words)
        Path(kubeconfig).write_text(Path(cause.runs.environment["KUBECONFIG"]).read_text())
        (cause.runs.folder / "reported").touch()
        cells = (
            "credentials expired",
            "the user's ServiceAccount is deleted during the run; continues after a new login",
        )
        cause.check(run, 0, words, "log in again", rejected_at, *cells)
    assert original != Path(kubeconfig).read_text()


@cause_test
def test_run_continues_after_network_failure(cause: Cause) -> None:
    network, kubeconfig = make_flaky_network(Path(cause.runs.environment["KUBECONFIG"]), cause.runs.folder)
    try:
        with cause.searching(KUBECONFIG=str(kubeconfig), script=UNTIL_REPORTED) as run:
            network.cut()
            cut_at = time.monotonic()
            run.until("the scheduler does not answer: retrying for")
            network.restore()
            (cause.runs.folder / "reported").touch()
            cells = ("network cut", "during the run, until it is reported: continues")
            cause.check(run, 0, "the scheduler does not answer: retrying for", "", cut_at, *cells)
    finally:
        network.close()


# --- versions


@cause_test
def test_image_with_another_dask_version(cause: Cause) -> None:
    """The local Dask is one release older than the image's, which a running worker reports."""
    older = cause.runs.folder / "older"
    requirements = ["dask==2026.7.1", "distributed==2026.7.1"]
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", str(older), *requirements], check=True, timeout=120)
    cause.start(
        ("another Dask in the image", "2026.7.1 here, `--env none`"),
        running_worker,
        "error: the image does not match this environment: dask 2026.7.1 here, 2026.8.0 on the cluster",
        "choose an image with the same versions",
        PYTHONPATH=str(older),
    )


# --- the operator, on a second API server: the first one serves other tests


def start_second_api(runner: ScenarioRunner) -> AbstractContextManager[SecondApi]:
    return second_api(Path(runner.environment["KUBECONFIG"]), runner.folders.mktemp("second"))


second_api_cause_test = side_by_side(
    setup=new_cause, exclusive="the second API server", shared={"second": start_second_api}
)
"""Like `cause_test`, for tests on the second API server, each of which needs other custom resources."""


def on_second_api(second: SecondApi, cause: Cause) -> Cause:
    """Return this cause for runs on the second API server."""
    runs = Runs(cause.runs.folder, cause.runs.environment | {"KUBECONFIG": str(second.kubeconfig())}, "default")
    return Cause(runs, cause.row, cause.kind_api, None)


@contextmanager
def custom_resources(
    kubeconfig: Path, change: Callable[[dict[str, Any]], None] = lambda _: None
) -> Iterator[client.ApiClient]:
    """Within this block, the second API has Dask's custom resources, changed by `change`."""
    with config.new_client_from_config(str(kubeconfig)) as api:
        definitions = client.ApiextensionsV1Api(api)
        names = []
        for definition in custom_resource_definitions():
            change(definition)
            definitions.create_custom_resource_definition(definition)
            names.append(definition["metadata"]["name"])
        try:
            for name in names:
                until(lambda name=name: is_established(definitions.read_custom_resource_definition(name)))
            yield api
        finally:
            for name in names:
                definitions.delete_custom_resource_definition(name)
                # Its finalizer: before it removes that, the server looks for objects, which can take over a minute.
                with suppress(NotFoundException):
                    definitions.patch_custom_resource_definition(
                        name, [{"op": "remove", "path": "/metadata/finalizers"}]
                    )
            until(
                lambda: not definitions.list_custom_resource_definition().items, "the custom resources were not deleted"
            )


def is_established(definition: Any) -> bool:
    conditions = definition.status.conditions or []
    return any(each.type == "Established" and each.status == "True" for each in conditions)


@second_api_cause_test
def test_operator_is_not_installed(cause: Cause, second: SecondApi) -> None:
    second_cause = on_second_api(second, cause)
    second_cause.start(
        ("operator absent", "an API without its custom resources"),
        None,
        "error: the cluster of context `kind-skjob` has no Dask operator",
        "`skjob install --context kind-skjob` installs it",
        code=123,
    )


@second_api_cause_test
def test_custom_resources_have_another_version(cause: Cause, second: SecondApi) -> None:
    second_cause = on_second_api(second, cause)

    def rename_version(definition: dict[str, Any]) -> None:
        definition["spec"]["versions"][0]["name"] = "v2"

    with custom_resources(second.kubeconfig(), rename_version):
        second_cause.start(
            ("CRD of another version", "DaskClusters of v2"),
            None,
            "error: the cluster of context `kind-skjob` has DaskClusters in version v2, not v1",
            "`skjob install --context kind-skjob`",
            code=123,
        )


@second_api_cause_test
def test_custom_resources_of_another_operator_release(cause: Cause, second: SecondApi) -> None:
    second_cause = on_second_api(second, cause)

    def remove_metadata(definition: dict[str, Any]) -> None:
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        if definition["spec"]["names"]["kind"] == "DaskCluster":
            del schema["worker"]["properties"]["metadata"]

    with custom_resources(second.kubeconfig(), remove_metadata):
        second_cause.start(
            ("CRD of another release", "DaskClusters whose workers have no metadata"),
            None,
            'another version of DaskClusters than dask-kubernetes here: unknown field "spec.worker.metadata"',
            "`skjob install --context kind-skjob` upgrades the operator to this version",
            code=123,
        )


def create_operator(api: client.ApiClient, version: str, *, runs: bool) -> None:
    """Create the operator's Deployment, for which nothing creates pods; with `runs`, with a status as if it ran."""
    [deployment] = [each for each in operator_manifests(IMAGE, "default") if each["kind"] == "Deployment"]
    deployment["metadata"]["labels"]["app.kubernetes.io/version"] = version
    apps = client.AppsV1Api(api)
    apps.create_namespaced_deployment("default", deployment)
    if runs:
        status = {
            "observedGeneration": 1,
            "replicas": 1,
            "updatedReplicas": 1,
            "availableReplicas": 1,
            "readyReplicas": 1,
        }
        apps.patch_namespaced_deployment_status(OPERATOR_NAME, "default", {"status": status})


@second_api_cause_test
def test_operator_is_not_running(cause: Cause, second: SecondApi) -> None:
    second_cause = on_second_api(second, cause)
    with custom_resources(second.kubeconfig()) as api:
        create_operator(api, "2026.3.0", runs=False)
        try:
            run = second_cause.start(
                ("operator dead", "its Deployment has no pod"),
                None,
                f"the Dask operator `default/{OPERATOR_NAME}` is not running; waiting up to 20 s",
                "`skjob doctor` says more; run `skjob install` to upgrade it",
                code=123,
            )
        finally:
            client.AppsV1Api(api).delete_namespaced_deployment(OPERATOR_NAME, "default")
    assert "error: the Dask operator has not acted on `skjob-train-" in run.text


@second_api_cause_test
def test_operator_is_too_old(cause: Cause, second: SecondApi) -> None:
    second_cause = on_second_api(second, cause)
    with custom_resources(second.kubeconfig()) as api:
        create_operator(api, "2023.3.0", runs=True)
        try:
            second_cause.start(
                ("operator too old", "its Deployment is labelled 2023.3.0"),
                None,
                f"error: the Dask operator `default/{OPERATOR_NAME}` has version 2023.3.0, but skjob needs 2023.8",
                "run `skjob install` to upgrade it",
                code=123,
            )
        finally:
            client.AppsV1Api(api).delete_namespaced_deployment(OPERATOR_NAME, "default")
