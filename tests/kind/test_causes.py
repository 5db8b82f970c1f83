"""Why a run cannot go on: each cause provoked on a real Kubernetes, and what the user is told, how soon.

Each test is a row of the table of causes. Known is what the API has sent to a watch, or what it answers; told is a line
on the run's stderr. What acts on a whole cluster is bound to the test's namespace or user. Most runs wait for the API
most of their time: they are played side by side.
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
from support.fault_injection import IMAGE, THINK, THOUGHT_ABOUT, StandIn, policy, stand_in, webhook
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
from support.side_by_side import Played, Stage, side_by_side
from support.users import user_environment
from support.wait import until

from skjob.deploy.kubernetes.operator.manifests import custom_resource_definitions, operator_manifests
from skjob.deploy.kubernetes.operator.state import OPERATOR_NAME
from skjob.utils.units import format_cpus, quantity

Row = Callable[..., None]
FINE = "from joblib import Parallel, delayed; print(len(Parallel()(delayed(abs)(i) for i in range(4))))"
BEGINNING = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    Parallel()(delayed(time.sleep)(0.1) for i in range(8))
    Path("begun").touch()
"""
UNTIL_TOLD = """
    import time
    from pathlib import Path
    from joblib import Parallel, delayed
    while not Path("told").exists():
        Parallel()(delayed(time.sleep)(0.1) for i in range(8))
"""


class Cause:
    """Provokes one cause, checks what is told of it, and adds the row."""

    def __init__(self, runs: Runs, row: Row, kind_api: client.ApiClient, known: ApiTimeline | None) -> None:
        self.runs = runs
        self.row = row
        self.kind_api = kind_api
        self._known = known

    @property
    def namespace(self) -> str:
        return self.runs.namespace

    def known(self, what: Callable[[dict[str, Any]], bool]) -> float:
        """When the API first told of that."""
        assert self._known is not None
        return self._known.since(what)

    def run(self, script: str, *options: str, **environment: str) -> Any:
        """One worker is enough to be told why there is none, where the options do not say otherwise."""
        command = self.runs.command(script, "--workers", "1", *options)
        return timed_run(command, cwd=self.runs.folder, env=self.runs.environment | environment)

    @contextmanager
    def searching(self, *options: str, script: str = SEARCHING, **environment: str) -> Iterator[TimedRun]:
        """A run in the middle of its search: its program has had results."""
        begun = self.runs.folder / "begun"
        with self.run(BEGINNING + script, *options, **environment) as run:
            run.until("wait for the first worker: ")
            until(lambda: begun.exists() or run.process.poll() is not None, "its program did not begin", 120)
            assert begun.exists(), run.text
            yield run

    def check(self, run: TimedRun, code: int, words: str, hint: str, since: float, *cells: str) -> None:
        """The line with `words` came, and `hint` stands in it, or in the hint of the error.

        The table says how many seconds after `since` that was.
        """
        assert run.wait() == code, run.text
        at, line = run.line(words)
        # Of a script that fails, its own is shown.
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
        known: Callable[[dict[str, Any]], bool] | None,
        words: str,
        hint: str,
        *options: str,
        code: int = 124,
        script: str = FINE,
        **environment: str,
    ) -> TimedRun:
        """A run that ends with its cause. Where `known` is None, the API knew it before Enter."""
        with self.run(script, *options, **environment) as run:
            assert run.wait() == code, run.text
        since = run.began if known is None else self.known(known)
        self.check(run, code, words, hint, since, *cells)
        return run


@contextmanager
def provoking(stage: Stage) -> Iterator[Cause]:
    known = ApiTimeline(stage.kind_api, stage.namespace)
    try:
        yield Cause(stage.runs, partial(stage.row, "cause_row"), stage.kind_api, known)
    finally:
        known.close()


caused = partial(side_by_side, stage=provoking, shared={"standing_in": lambda played: stand_in(played.kind_api)})
"""Makes a test of a scenario that takes a `Cause`."""


# --- images


@caused
def test_an_image_that_is_missing(cause: Cause, standing_in: StandIn) -> None:
    cause.start(
        ("image missing", "a registry that answers 404"),
        waiting("ErrImagePull"),
        "cannot be pulled: ",
        "choose an image that exists: `--image`",
        "--image",
        standing_in.image("absent/model:1"),
    )


@caused
def test_an_image_that_nobody_may_have(cause: Cause, standing_in: StandIn) -> None:
    cause.start(
        ("image unauthorized", "a registry that answers 401"),
        waiting("ErrImagePull"),
        "cannot be pulled: ",
        "image pull secret",
        "--image",
        standing_in.image("private/model:1"),
    )


@caused
def test_a_pull_secret_that_is_missing(cause: Cause, standing_in: StandIn) -> None:
    core = client.CoreV1Api(cause.kind_api)
    # Kubernetes makes it some time after the cause.namespace.
    accounts = core.list_namespaced_service_account
    until(lambda: accounts(cause.namespace, field_selector="metadata.name=default").items, "there is no account")
    core.patch_namespaced_service_account("default", cause.namespace, {"imagePullSecrets": [{"name": "regcred"}]})
    cause.start(
        ("pull secret missing", "the service account names one that is not there"),
        waiting("ErrImagePull"),
        "; the pull secret `regcred` does not exist",
        "create `regcred` in the namespace",
        "--image",
        standing_in.image("private/model:1"),
    )


@caused
def test_an_image_without_python(cause: Cause) -> None:
    cause.start(
        ("no Python in the image", "the image of `pause`"),
        ended("StartError"),
        "has no command `python`",
        "choose an image with Python",
        "--image",
        "registry.k8s.io/pause:3.10",
    )


@caused
def test_an_image_without_dask(cause: Cause) -> None:
    run = cause.start(
        ("no Dask in the image", "Python's own image, `--env none`"),
        ended(),
        "No module named",
        "choose an image that has it",
        "--image",
        "python:3.11-slim",
    )
    assert "\n  | " in run.text


# --- room


@caused(waits=True)
def test_a_size_that_no_node_has(cause: Cause) -> None:
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


@caused
def test_nodes_that_have_room_for_some_of_the_workers(cause: Cause) -> None:
    """More than half of a node each: there are two nodes for three workers."""
    nodes = [node for node in client.CoreV1Api(cause.kind_api).list_node().items if not node.spec.taints]
    of_a_node = max(quantity(node.status.allocatable["cpu"]) for node in nodes)
    size = round(0.55 * of_a_node, 2)
    with cause.run(UNTIL_TOLD, "--workers", "3", "--worker-cpu", str(size)) as run:
        run.until(f"no node has room for a worker of {format_cpus(size)}")
        (cause.runs.folder / "told").touch()
        known = cause.known(unscheduled)
        cells = ("pending for lack of nodes", f"3 workers of {size:g} CPUs on 2 nodes of {of_a_node:g}: goes on with 2")
        words = "Insufficient cpu; the largest free capacity is "
        cause.check(run, 0, words, "request fewer or smaller workers", known, *cells)
    assert 1 <= max(at["connected"] for at in cause.runs.record()["workers"]) <= 2


def quota(api: client.ApiClient, namespace: str, **hard: str) -> None:
    body = {
        "metadata": {"name": "small"},
        "spec": {"hard": {name.replace("_", "."): much for name, much in hard.items()}},
    }
    client.CoreV1Api(api).create_namespaced_resource_quota(namespace, body)
    until(lambda: client.CoreV1Api(api).read_namespaced_resource_quota("small", namespace).status.hard)


@caused
def test_a_quota_that_is_too_small(cause: Cause) -> None:
    quota(cause.kind_api, cause.namespace, limits_memory="1200Mi")
    cause.start(
        ("ResourceQuota", "room for the scheduler, none for a worker"),
        event("FailedCreate", "exceeded quota"),
        "error: the API rejects the pod: exceeded quota: small, requested: limits.memory=512Mi",
        "`kubectl get resourcequota` shows it",
    )


@caused
def test_a_quota_that_is_full(cause: Cause) -> None:
    quota(cause.kind_api, cause.namespace, pods="2")
    cells = ("ResourceQuota", "room for one of two workers: goes on with it")
    with cause.run(UNTIL_TOLD, "--workers", "2") as run:
        run.until("; waiting for other runs to free it")
        (cause.runs.folder / "told").touch()
        known = cause.known(event("FailedCreate", "exceeded quota"))
        cause.check(run, 0, "exceeded quota: small, requested: pods=1", "request fewer", known, *cells)


@caused
def test_a_quota_that_has_no_run_left(cause: Cause) -> None:
    quota(cause.kind_api, cause.namespace, **{"count/jobs_batch": "0"})
    words = 'error: jobs.batch "skjob-train-'
    cause.start(("ResourceQuota", "no more Jobs"), None, words, "`kubectl get resourcequota` shows it")


@caused
def test_a_quota_that_wants_what_is_left_open(cause: Cause) -> None:
    quota(cause.kind_api, cause.namespace, limits_cpu="8")
    cause.start(
        ("ResourceQuota", "it wants a limit of CPU"),
        event("FailedCreate", "must specify"),
        "failed quota: small: must specify limits.cpu",
        "a LimitRange in the namespace can set defaults",
    )


@caused
def test_a_limit_range(cause: Cause) -> None:
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


# --- who says no


@caused
def test_pod_security(cause: Cause, standing_in: StandIn) -> None:
    """skjob's pods pass the strictest standard: a webhook changes them on their way."""
    with webhook(cause.kind_api, standing_in, "/loosen", cause.namespace):
        cause.start(
            ("pod security", "a webhook gives the pods the node's network"),
            event("FailedCreate", "violates PodSecurity"),
            'error: the API rejects the pod: violates PodSecurity "restricted:latest": host namespaces',
            "pod security level",
        )


@caused
def test_an_admission_webhook(cause: Cause, standing_in: StandIn) -> None:
    with webhook(cause.kind_api, standing_in, "/refuse", cause.namespace):
        cause.start(
            ("admission webhook", "it refuses pods"),
            event("FailedCreate", "denied the request"),
            'admission webhook "policy.example.org" denied the request: pods of this team need an owner',
            "ask your platform team",
        )


@pytest.mark.parametrize(("group", "resource"), [("", "pods"), ("kubernetes.dask.org", "daskclusters")])
@caused
def test_an_admission_policy(cause: Cause, group: str, resource: str) -> None:
    with policy(cause.kind_api, cause.namespace, group, resource):
        cause.start(
            ("ValidatingAdmissionPolicy", f"it refuses {resource}"),
            event("FailedCreate", "denied request") if resource == "pods" else None,
            f"denied request: no {resource} after six o'clock",
            "ask your platform team",
        )


# --- pods that end


@caused
def test_a_crash_loop(cause: Cause, standing_in: StandIn) -> None:
    with webhook(cause.kind_api, standing_in, "/break", cause.namespace):
        run = cause.start(
            ("crash loop", "the pods' certificate authority is not there"),
            ended(),
            "ended with exit code 1: FileNotFoundError",
            "kubectl logs",
        )
    assert "\n  | FileNotFoundError: " in run.text
    assert any("FileNotFoundError" in log for log in cause.runs.record()["logs"].values())


@caused
def test_too_little_memory(cause: Cause) -> None:
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


@caused
def test_an_eviction(cause: Cause) -> None:
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
        while not Path("told").exists():
            Parallel()(delayed(work)(0) for i in range(4))
    """
    with cause.run(script, "--workers", "2") as run:
        run.until("the node `skjob-worker")
        (cause.runs.folder / "told").touch()
        known = cause.known(event("Evicted"))
        cells = ("evicted", "a worker logs 8 MiB where 4 are allowed: goes on")
        cause.check(run, 0, "Evicted: ", "write less to `/tmp` and to the log", known, *cells)


# --- the API itself


@caused
def test_a_namespace_that_is_being_deleted(cause: Cause) -> None:
    """Something in it holds it back, as a finalizer of another operator would."""
    core = client.CoreV1Api(cause.kind_api)
    held = core.create_namespaced_config_map(
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
        core.patch_namespaced_config_map(held.metadata.name, cause.namespace, {"metadata": {"finalizers": None}})


@caused
def test_a_namespace_that_is_deleted_in_mid_run(cause: Cause) -> None:
    """Kubernetes lets its pods run for another five seconds."""
    with cause.searching() as run:
        client.CoreV1Api(cause.kind_api).delete_namespace(cause.namespace)
        run.wait()
        known = cause.known(terminating)
        cells = ("namespace being deleted", "in mid-run; from when its pods are told to go")
        cause.check(
            run, 126, f"error: the namespace `{cause.namespace}` is being deleted", "run it again", known, *cells
        )


@caused
def test_a_cluster_that_somebody_removes(cause: Cause) -> None:
    with cause.searching() as run:
        [job] = client.BatchV1Api(cause.kind_api).list_namespaced_job(cause.namespace).items
        client.BatchV1Api(cause.kind_api).delete_namespaced_job(
            job.metadata.name, cause.namespace, propagation_policy="Background"
        )
        at = time.monotonic()
        cells = ("removed by somebody", "its anchor is deleted in mid-run")
        words = f"error: `{job.metadata.name}` was removed"
        cause.check(run, 126, words, "run it again", at, *cells)


@contextmanager
def one_at_a_time(api: client.ApiClient, namespace: str) -> Iterator[None]:
    """Within this block, the API puts off what the namespace's user asks while it does something else for them."""
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
    anything = {"verbs": ["*"], "nonResourceURLs": ["*"]}
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
                    "rules": [{"subjects": [subject], "resourceRules": [rule], "nonResourceRules": [anything]}],
                },
            }
        )
        yield
    finally:
        with suppress(ApiException):
            flow.delete_flow_schema(name)
        flow.delete_priority_level_configuration(name)


def somebody_of(cause: Cause) -> str:
    """The kubeconfig of a user with skjob's Role and no more."""
    runs = cause.runs
    return user_environment(cause.kind_api, runs.environment, cause.namespace, runs.folder, may_run=True)["KUBECONFIG"]


def api_of(kubeconfig: str) -> client.ApiClient:
    """A client that makes no request again."""
    configuration = client.Configuration()
    config.load_kube_config(kubeconfig, client_configuration=configuration)
    configuration.retries = False
    return client.ApiClient(configuration)


def answers(kubeconfig: str, namespace: str) -> Iterator[int]:
    """What the API answers a user who asks for pods, again and again."""
    deadline = time.monotonic() + 60
    with api_of(kubeconfig) as api:
        while time.monotonic() < deadline:
            try:
                client.CoreV1Api(api).list_namespaced_pod(namespace)
            except ApiException as error:
                yield error.status
            else:
                yield 200
            time.sleep(0.05)


@contextmanager
def thinking(kubeconfig: str, namespace: str) -> Iterator[threading.Event]:
    """Until the event is set, the user makes something that a webhook thinks about, again and again."""
    something = {"metadata": {"generateName": "something-", "labels": THOUGHT_ABOUT}}
    enough = threading.Event()

    def think() -> None:
        with api_of(kubeconfig) as api:
            while not enough.wait(0.1):
                with suppress(Exception):  # the API has too much to do for this one too, now and then
                    client.CoreV1Api(api).create_namespaced_config_map(namespace, something, dry_run="All")

    thread = threading.Thread(target=think, daemon=True)
    thread.start()
    try:
        yield enough
    finally:
        enough.set()
        thread.join(60)


@caused
def test_an_api_that_has_too_much_to_do(cause: Cause, standing_in: StandIn) -> None:
    """For the first seconds of a start: a webhook thinks about something else that the user makes."""
    somebody = somebody_of(cause)
    cells = ("API throttling", "Priority and Fairness rejects the user for some seconds: goes on")
    with (
        webhook(cause.kind_api, standing_in, THINK, cause.namespace),
        one_at_a_time(cause.kind_api, cause.namespace),
        thinking(somebody, cause.namespace) as enough,
    ):
        # The API knows the webhook and the priority only after a moment, on a busy machine a longer one.
        assert 429 in answers(somebody, cause.namespace)
        with cause.run(FINE, KUBECONFIG=somebody) as run:
            run.until("is throttling requests (429); retrying")
            enough.set()
            client.FlowcontrolApiserverV1Api(cause.kind_api).delete_flow_schema(f"test-{cause.namespace}")
            cause.check(run, 0, "is throttling requests (429); retrying", "", run.began, *cells)


@caused
def test_credentials_that_are_not_accepted(cause: Cause) -> None:
    somebody = somebody_of(cause)
    client.CoreV1Api(cause.kind_api).delete_namespaced_service_account("somebody", cause.namespace)
    next(status for status in answers(somebody, cause.namespace) if status == 401)
    cells = ("credentials not accepted", "the user's ServiceAccount was deleted")
    words = "error: the Kubernetes API of context `kind-skjob` does not accept its credentials"
    cause.start(cells, None, words, "log in again", code=121, KUBECONFIG=somebody)


@caused
def test_credentials_that_end_in_mid_run(cause: Cause) -> None:
    """The user logs in again: the kubeconfig has others then, and the run goes on with them."""
    somebody = somebody_of(cause)
    core = client.CoreV1Api(cause.kind_api)
    own = Path(somebody).read_text()
    with cause.searching(KUBECONFIG=somebody, script=UNTIL_TOLD) as run:
        core.delete_namespaced_service_account("somebody", cause.namespace)
        next(status for status in answers(somebody, cause.namespace) if status == 401)
        at = time.monotonic()
        words = "does not accept its credentials: Unauthorized"
        run.until(words)
        Path(somebody).write_text(Path(cause.runs.environment["KUBECONFIG"]).read_text())
        (cause.runs.folder / "told").touch()
        cells = ("credentials expired", "the user's ServiceAccount is deleted in mid-run; goes on after a new login")
        cause.check(run, 0, words, "log in again", at, *cells)
    assert own != Path(somebody).read_text()


@caused
def test_a_network_that_is_cut_in_mid_run(cause: Cause) -> None:
    network, kubeconfig = make_flaky_network(Path(cause.runs.environment["KUBECONFIG"]), cause.runs.folder)
    try:
        with cause.searching(KUBECONFIG=str(kubeconfig), script=UNTIL_TOLD) as run:
            network.cut()
            at = time.monotonic()
            run.until("the scheduler does not answer: retrying for")
            network.restore()
            (cause.runs.folder / "told").touch()
            cells = ("network cut", "in mid-run, until that is told: goes on")
            cause.check(run, 0, "the scheduler does not answer: retrying for", "", at, *cells)
    finally:
        network.close()


# --- versions


@caused
def test_another_dask(cause: Cause) -> None:
    """This machine's is older than the image's by a release. A worker's container that runs can be asked."""
    older = cause.runs.folder / "older"
    wanted = ["dask==2026.7.1", "distributed==2026.7.1"]
    install = [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
    subprocess.run([*install, "--target", str(older), *wanted], check=True, timeout=120)
    cause.start(
        ("another Dask in the image", "2026.7.1 here, `--env none`"),
        running_worker,
        "error: the image does not match this environment: dask 2026.7.1 here, 2026.8.0 on the cluster",
        "choose an image with the same versions",
        PYTHONPATH=str(older),
    )


# --- the operator, on an API server of its own: that of the tests serves others too


def a_second_api(played: Played) -> AbstractContextManager[SecondApi]:
    return second_api(Path(played.environment["KUBECONFIG"]), played.folders.mktemp("second"))


caused_elsewhere = side_by_side(stage=provoking, one_by_one="the second API server", shared={"second": a_second_api})
"""The same on that API server, whose custom resources are others for each."""


def on_the(second: SecondApi, cause: Cause) -> Cause:
    """This cause, there."""
    runs = Runs(cause.runs.folder, cause.runs.environment | {"KUBECONFIG": str(second.kubeconfig())}, "default")
    return Cause(runs, cause.row, cause.kind_api, None)


@contextmanager
def defined(kubeconfig: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Iterator[client.ApiClient]:
    """Within this block the second API has Dask's custom resources, as they are after that change."""
    with config.new_client_from_config(str(kubeconfig)) as api:
        definitions = client.ApiextensionsV1Api(api)
        names = []
        for definition in custom_resource_definitions():
            change(definition)
            definitions.create_custom_resource_definition(definition)
            names.append(definition["metadata"]["name"])
        try:
            for name in names:
                until(lambda name=name: established(definitions.read_custom_resource_definition(name)))
            yield api
        finally:
            for name in names:
                definitions.delete_custom_resource_definition(name)
                # The server's own, which looks for objects first: now and then that takes it more than a minute.
                with suppress(NotFoundException):
                    definitions.patch_custom_resource_definition(
                        name, [{"op": "remove", "path": "/metadata/finalizers"}]
                    )
            until(lambda: not definitions.list_custom_resource_definition().items, "they are not gone")


def established(definition: Any) -> bool:
    conditions = definition.status.conditions or []
    return any(each.type == "Established" and each.status == "True" for each in conditions)


@caused_elsewhere
def test_no_operator(cause: Cause, second: SecondApi) -> None:
    elsewhere = on_the(second, cause)
    elsewhere.start(
        ("operator absent", "an API without its custom resources"),
        None,
        "error: the cluster of context `kind-skjob` has no Dask operator",
        "`skjob install --context kind-skjob` installs it",
        code=123,
    )


@caused_elsewhere
def test_custom_resources_of_another_version(cause: Cause, second: SecondApi) -> None:
    elsewhere = on_the(second, cause)

    def renamed(definition: dict[str, Any]) -> None:
        definition["spec"]["versions"][0]["name"] = "v2"

    with defined(second.kubeconfig(), renamed):
        elsewhere.start(
            ("CRD of another version", "DaskClusters of v2"),
            None,
            "error: the cluster of context `kind-skjob` has DaskClusters in version v2, not v1",
            "`skjob install --context kind-skjob`",
            code=123,
        )


@caused_elsewhere
def test_custom_resources_of_another_release(cause: Cause, second: SecondApi) -> None:
    elsewhere = on_the(second, cause)

    def without_metadata(definition: dict[str, Any]) -> None:
        schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        if definition["spec"]["names"]["kind"] == "DaskCluster":
            del schema["worker"]["properties"]["metadata"]

    with defined(second.kubeconfig(), without_metadata):
        elsewhere.start(
            ("CRD of another release", "DaskClusters whose workers have no metadata"),
            None,
            'another version of DaskClusters than dask-kubernetes here: unknown field "spec.worker.metadata"',
            "`skjob install --context kind-skjob` upgrades the operator to this version",
            code=123,
        )


def operator(api: client.ApiClient, version: str, *, runs: bool) -> None:
    """Its Deployment, without anybody who would make pods of it."""
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


@caused_elsewhere
def test_an_operator_that_is_dead(cause: Cause, second: SecondApi) -> None:
    elsewhere = on_the(second, cause)
    with defined(second.kubeconfig()) as api:
        operator(api, "2026.3.0", runs=False)
        try:
            run = elsewhere.start(
                ("operator dead", "its Deployment has no pod"),
                None,
                f"the Dask operator `default/{OPERATOR_NAME}` is not running; waiting up to 20 s",
                "`skjob doctor` says more; run `skjob install` to upgrade it",
                code=123,
            )
        finally:
            client.AppsV1Api(api).delete_namespaced_deployment(OPERATOR_NAME, "default")
    assert "error: the Dask operator has not acted on `skjob-train-" in run.text


@caused_elsewhere
def test_an_operator_that_is_too_old(cause: Cause, second: SecondApi) -> None:
    elsewhere = on_the(second, cause)
    with defined(second.kubeconfig()) as api:
        operator(api, "2023.3.0", runs=True)
        try:
            elsewhere.start(
                ("operator too old", "its Deployment is labelled 2023.3.0"),
                None,
                f"error: the Dask operator `default/{OPERATOR_NAME}` has version 2023.3.0, but skjob needs 2023.8",
                "run `skjob install` to upgrade it",
                code=123,
            )
        finally:
            client.AppsV1Api(api).delete_namespaced_deployment(OPERATOR_NAME, "default")
