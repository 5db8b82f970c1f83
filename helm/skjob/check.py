"""What Helm has looked at, as one of a team's users: with their Role in their namespace, asking the API as skjob does.

`helm test`: what a run needs is there, and what limits it holds. What is created for real is a Job without pods and a
DaskCluster without containers, which the operator has to refuse; both are gone when it ends. `helm uninstall`: no run
is under way, which would lose the rights that it needs.

Nothing but Python's own library is needed, so that any image with Python will do.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT = 60.0
"""Seconds that the operator may take to start, and the API to learn of a policy that was just installed."""

DASK = "/apis/kubernetes.dask.org/v1"
MAY = [
    ("create", "batch", "jobs", ""),
    ("create", "kubernetes.dask.org", "daskclusters", ""),
    ("patch", "kubernetes.dask.org", "daskworkergroups", ""),
    ("patch", "", "configmaps", "skjob-costs"),
]
MAY_NOT = [
    ("patch", "", "configmaps", "skjob-defaults"),
    ("delete", "", "resourcequotas", "skjob"),
    ("create", "", "pods", ""),
    ("list", "", "secrets", ""),
]

MAX_WORKERS = ("limits.max-workers", "max-workers", "most-workers")
MAX_TIME = ("limits.max-time", "most-time")
"""Names of limits in the ConfigMap, today's and the old ones. `max-time` is a default."""

Manifest = dict[str, Any]
Answer = tuple[int, Manifest]


class Api:
    """The API as the pod's own service account, in the team's namespace."""

    def __init__(self, namespace: str) -> None:
        address = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        self.address = f"https://{address}"
        self.namespace = namespace
        self.token = (ACCOUNT / "token").read_text()
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        # Nobody's proxy: this is the cluster itself.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def ask(self, method: str, path: str, body: Manifest | None = None) -> Answer:
        """The status and the object, which is a Status where it was refused."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.address + path, data, headers, method=method)  # noqa: S310 - https
        try:
            with self.opener.open(request, timeout=15) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def of(self, base: str, plural: str, name: str = "", query: str = "") -> str:
        """The path of a kind, or of one object, in the namespace."""
        return f"{base}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "") + query

    def allowed(self, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether this account may."""
        attributes = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource, "name": name}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        _, said = self.ask(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            review | {"spec": {"resourceAttributes": attributes}},
        )
        return bool(said["status"]["allowed"])


def pod(containers: list[Manifest]) -> Manifest:
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": security,
        "containers": containers,
    }


CONTAINER = {
    "name": "none",
    "image": "none.invalid/none",
    "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "1Mi"}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}


def job(name: str, seconds: int | None) -> Manifest:
    """As the owner of a run: without pods."""
    spec: Manifest = {"parallelism": 0, "ttlSecondsAfterFinished": 0, "template": {"spec": pod([CONTAINER])}}
    if seconds is not None:
        spec["activeDeadlineSeconds"] = seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def cluster(
    name: str,
    owner: Manifest | None,
    workers: int,
    containers: list[Manifest],
    selector: Manifest | None = None,
    pods: Manifest | None = None,
    **fields: Any,
) -> Manifest:
    """`pods` has the team's labels and annotations, and `fields` are more of the pods'."""
    pods = pods or {"labels": {}, "annotations": {}}
    metadata: Manifest = {"name": name, "annotations": pods["annotations"]}
    if owner is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ]
    spec = {
        "containers": containers,
        "nodeSelector": selector or {},
        "automountServiceAccountToken": False,
        **fields,
    }
    # Its pool may take workers alone.
    of_scheduler = pods.get("pool", {}).get("scheduler") if selector else None
    labels = {"labels": pods["labels"]}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": metadata,
        "spec": {
            "worker": {"replicas": workers, "metadata": labels, "spec": spec},
            "scheduler": {
                "metadata": labels,
                "spec": {**spec, "nodeSelector": of_scheduler or spec["nodeSelector"]},
                "service": {"type": "ClusterIP", "selector": {}, "ports": []},
            },
        },
    }


def checks(api: Api, team: str, *, limited: bool, selector: Manifest, pods: Manifest) -> Iterator[tuple[str, str]]:
    """What was looked at, and what is wrong with it; nothing if all is well."""
    status, found = api.ask("GET", api.of("/api/v1", "configmaps", "skjob-defaults"))
    data = found.get("data", {})
    yield "users can read the team's defaults", "" if data.get("team") == team else f"{status} {found}"
    status, found = api.ask("GET", api.of("/api/v1", "configmaps", "skjob-costs"))
    yield "users can read what runs have cost", "" if status == 200 else f"{status} {found}"
    for rights, wanted in ((MAY, True), (MAY_NOT, False)):
        wrong = [right for right in rights if api.allowed(*right) is not wanted]
        yield f"users {'have' if wanted else 'lack'} the rights they should", f"not so: {wrong}" if wrong else ""
    if pods["audiences"]:
        taken = sorted(set(pods["audiences"]) & {*own_audiences(api.token)})
        yield "no pod has a token for the Kubernetes API", f"it takes the audience {taken}" if taken else ""
    status, found = api.ask("GET", DASK)
    yield "the API knows DaskClusters", "" if status == 200 else f"{status} {found}"
    if status == 200:
        yield "the operator acts", operator_acts(api)
    if limited and status == 200:
        yield from limits(api, data, selector, pods)


def own_audiences(token: str) -> list[str]:
    """Whom this pod's own token is for: the Kubernetes API."""
    payload = token.split(".")[1]
    return list(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["aud"])


def operator_acts(api: Api) -> str:
    """Whether it looks at a DaskCluster: at one that is nothing to act on. `skjob doctor` asks in the same way."""
    _, owner = api.ask("POST", api.of("/apis/batch/v1", "jobs"), job("skjob-test", 2 * int(TIMEOUT)))
    if "uid" not in owner["metadata"]:
        return f"no Job can be made: {owner}"
    # Longer than any name that it takes.
    name = "skjob-test-asks-whether-an-operator-is-there-to-refuse-this"
    path = api.of(DASK, "daskclusters", name)
    try:
        status, made = api.ask("POST", api.of(DASK, "daskclusters"), cluster(name, owner, 0, []))
        if status != 201:
            return f"no DaskCluster can be made: {made}"
        acted = within(TIMEOUT, lambda: bool(api.ask("GET", path)[1].get("status", {}).get("phase")))
        return "" if acted else f"it did not look at a DaskCluster in {TIMEOUT:.0f} s"
    finally:
        api.ask("DELETE", path)
        api.ask("DELETE", api.of("/apis/batch/v1", "jobs", "skjob-test", "?propagationPolicy=Background"))


def limits(api: Api, data: dict[str, str], selector: Manifest, pods: Manifest) -> Iterator[tuple[str, str]]:
    """Dry runs of what has to be taken and of what has to be refused, with the words of the refusal."""
    owner = {"metadata": {"name": "skjob-test", "uid": "00000000-0000-0000-0000-000000000000"}}
    jobs, clusters = api.of("/apis/batch/v1", "jobs"), api.of(DASK, "daskclusters")

    def outcome(path: str, manifest: Manifest, refusal: str) -> str:
        """Nothing, where it was refused in these words, or taken where there are none."""
        status, said = api.ask("POST", f"{path}?dryRun=All", manifest)
        if refusal:
            return (
                "" if refusal in said.get("message", "") else f"it is not refused: {status} {said.get('message', '')}"
            )
        return "" if status == 201 else f"{status} {said.get('message', '')}"

    def refused(path: str, manifest: Manifest, refusal: str) -> str:
        within(TIMEOUT, lambda: outcome(path, manifest, refusal) == "")
        return outcome(path, manifest, refusal)

    yield (
        "a Job that has no deadline is refused",
        refused(jobs, job("skjob-test", None), "activeDeadlineSeconds"),
    )
    yield (
        "a DaskCluster that nothing ends is refused",
        refused(clusters, cluster("skjob-test", None, 1, [CONTAINER], selector, pods), "must be owned by a Job"),
    )
    pool = pods.get("pool", {})
    of_pool = pool.get("limits", {}).get("max-workers")
    if workers := [int(data[name]) for name in MAX_WORKERS if name in data] or [of_pool] * (of_pool is not None):
        many = (min(workers) if of_pool is None else int(of_pool)) + 1
        yield (
            f"{many} workers are refused",
            refused(clusters, cluster("skjob-test", owner, many, [CONTAINER], selector, pods), "max-workers"),
        )
    if any(name in data for name in MAX_TIME):
        yield "three years are refused", refused(jobs, job("skjob-test", 10**8), "max-time")
    if selector:
        yield (
            "pods on any node are refused",
            refused(
                clusters,
                cluster("skjob-test", owner, 1, [CONTAINER], pods=pods),
                "node-pools" if pool else "node-selector",
            ),
        )
    secret = {"volumes": [{"name": "other", "secret": {"secretName": "not-a-runs-own"}}]}
    yield (
        "pods with another Secret are refused",
        refused(clusters, cluster("skjob-test", owner, 1, [CONTAINER], selector, pods, **secret), "pods.mounts"),
    )
    yield "a run is not refused", outcome(jobs, job("skjob-test", 1), "")
    whole = cluster("skjob-test", owner, 1, [CONTAINER], selector, pods)
    yield "a DaskCluster is not refused", outcome(clusters, whole, "")


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether it comes to be so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def look(team: str, namespace: str, limited: str, pods: str, *labels: str) -> int:
    """Whether a user of the team finds all as it should be; 1 if something is wrong.

    `pods` is what pods have of the team's, as JSON, and `labels` are its nodes'.
    """
    selector = dict(label.split("=", 1) for label in labels)
    wrong = 0
    print(f"team {team} in namespace {namespace}", flush=True)
    found = checks(Api(namespace), team, limited=limited == "limited", selector=selector, pods=json.loads(pods))
    for what, problem in found:
        print(f"not so: {what}: {problem}" if problem else f"ok: {what}", flush=True)
        wrong += bool(problem)
    return 1 if wrong else 0


def over(*namespaces: str) -> int:
    """Whether no run is under way; 1 if there is one, or if that cannot be known."""
    found = 0
    for namespace in namespaces:
        api = Api(namespace)
        status, said = api.ask("GET", api.of(DASK, "daskclusters"))
        if status not in (200, 404):  # without custom resources there are no runs
            found += 1
            print(f"namespace {namespace}: {said.get('message', status)}")
        for item in said.get("items", []):
            found += 1
            print(f"namespace {namespace}: {item['metadata']['name']} is not over")
    if found:
        print(
            "what the release made stays; Helm now calls it uninstalling: `helm rollback` before the next upgrade."
            " `skjob ps --all-namespaces` shows what runs, `helm uninstall --no-hooks` does not ask"
        )
    return 1 if found else 0


def main() -> int:
    """`check.py look TEAM NAMESPACE limited|free PODS LABEL...`, or `check.py over NAMESPACE...`."""
    what, *arguments = sys.argv[1:]
    return look(*arguments) if what == "look" else over(*arguments)


if __name__ == "__main__":
    sys.exit(main())
