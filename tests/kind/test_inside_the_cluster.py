"""skjob in a pod of the cluster, as in a notebook server: with and without a token, and without access to the API.

The pod has the project's image. skjob and its requirements that the image does not have, such as the Kubernetes client,
are in a folder of the node.
"""

from __future__ import annotations

import base64
import io
import tarfile
import textwrap
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from packaging.requirements import Requirement
from support.namespaces import IMAGE
from support.nodes import on_node
from support.users import is_allowed
from support.wait import until

import skjob
from skjob.deploy.kubernetes.api.rbac import role

ACCOUNT = "jupyter"
SCRIPT = f"""
    import socket
    import skjob
    from joblib import Parallel, delayed
    from skjob.errors import SkjobError

    try:
        with skjob.cluster(
            1, on="kubernetes", image="{IMAGE}", env="none", worker_cpu=0.1, worker_memory="512Mi", checkpoint="none"
        ):
            print("workers:", Parallel()(delayed(socket.gethostname)() for _ in range(2)))
    except SkjobError as error:
        print("error:", error)
"""


PACKAGES = "/var/lib/skjob-test/site-packages"
"""Folder of a node with skjob and its requirements, as installed in this Python."""


@pytest.fixture(scope="module")
def packages(kind_api: client.ApiClient) -> Iterator[None]:
    """skjob and its requirements in a folder of each node."""
    archive = base64.b64encode(packed_requirements()).decode()
    nodes = [each.metadata.name for each in client.CoreV1Api(kind_api).list_node().items]
    for node in nodes:
        on_node(node, "mkdir", "--parents", PACKAGES)
        on_node(node, "sh", "-c", f"base64 --decode | tar --extract --gzip --directory {PACKAGES}", text=archive)
    yield
    for node in nodes:
        on_node(node, "rm", "--recursive", "--force", PACKAGES)


def packed_requirements() -> bytes:
    """Return a tar file of skjob and its direct and indirect requirements that the image does not have."""
    names, missing = set(), ["kubernetes", "pydantic"]
    while missing:
        name = missing.pop()
        if name not in names:
            names.add(name)
            requirements = [Requirement(each) for each in distribution(name).requires or ()]
            missing += [
                each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})
            ]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        for name in names:
            for file in distribution(name).files or ():
                if file.suffix != ".pyc" and ".." not in file.parts:
                    archive.add(file.locate(), str(file))
        package = Path(skjob.__file__).parent
        for source in package.rglob("*.py"):
            archive.add(source, str(Path("skjob", source.relative_to(package))))
        metadata = f"Metadata-Version: 2.1\nName: skjob\nVersion: {version('skjob')}\n".encode()
        entry = tarfile.TarInfo(f"skjob-{version('skjob')}.dist-info/METADATA")
        entry.size = len(metadata)
        archive.addfile(entry, io.BytesIO(metadata))
    return content.getvalue()


def run_notebook(core: client.CoreV1Api, namespace: str, *, token: bool = True, **variables: str) -> str:
    """Run the script in a pod, as a notebook server would, and return its output."""
    name = "notebook"
    core.create_namespaced_config_map(namespace, {"metadata": {"name": name}, "data": {"train.py": script()}})
    container: dict[str, Any] = {
        "name": name,
        "image": IMAGE,
        "command": ["python", "/notebook/train.py"],
        "env": [{"name": key, "value": value} for key, value in {"PYTHONPATH": PACKAGES, **variables}.items()],
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [
            {"name": "notebook", "mountPath": "/notebook"},
            {"name": "packages", "mountPath": PACKAGES, "readOnly": True},
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": token,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "notebook", "configMap": {"name": name}},
            {"name": "packages", "persistentVolumeClaim": {"claimName": "packages"}},
        ],
    }
    core.create_namespaced_pod(namespace, {"metadata": {"name": name}, "spec": spec})

    def has_ended() -> bool:
        return core.read_namespaced_pod(name, namespace).status.phase in ("Succeeded", "Failed")

    until(has_ended, "the pod does not end", 400)
    log: str = core.read_namespaced_pod_log(name, namespace)
    core.delete_namespaced_pod(name, namespace)
    core.delete_namespaced_config_map(name, namespace)
    until(lambda: not core.list_namespaced_pod(namespace, field_selector=f"metadata.name={name}").items)
    return log


def script() -> str:
    return textwrap.dedent(SCRIPT)


@pytest.fixture
def core(kind_api: client.ApiClient, namespace: str, packages: None) -> Iterator[client.CoreV1Api]:
    """An administrator's client. The notebook server's service account, its Role and its volume exist."""
    core, rbac = client.CoreV1Api(kind_api), client.RbacAuthorizationV1Api(kind_api)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": ACCOUNT}})
    rules = role(namespace)["rules"]
    rbac.create_namespaced_role(namespace, {"metadata": {"name": ACCOUNT}, "rules": rules})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    )
    user = f"system:serviceaccount:{namespace}:{ACCOUNT}"
    until(
        lambda: is_allowed(kind_api, user, verb="list", resource="pods", namespace=namespace), "the Role grants nothing"
    )
    volume = f"packages-{namespace}"
    spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    core.create_persistent_volume(
        {
            "metadata": {"name": volume},
            "spec": spec | {"capacity": {"storage": "1Gi"}, "hostPath": {"path": PACKAGES}},
        }
    )
    claim = spec | {"volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "packages"}, "spec": claim})
    yield core
    core.delete_persistent_volume(volume)


def test_pod_with_a_token_starts_a_cluster(core: client.CoreV1Api, namespace: str) -> None:
    log = run_notebook(core, namespace)
    assert f"context `in-cluster`, namespace `{namespace}`" in log
    assert "error:" not in log
    [workers] = [line for line in log.splitlines() if line.startswith("workers: ")]
    assert workers.count("-default-worker-") == 2
    assert not core.list_namespaced_pod(namespace, label_selector="dask.org/cluster-name").items


def test_pod_without_a_token_gets_a_hint(core: client.CoreV1Api, namespace: str) -> None:
    log = run_notebook(core, namespace, token=False)
    assert "error: this pod has no token of a service account, and no kubeconfig" in log
    assert "hint: the pod's spec needs `serviceAccountName`" in log


def test_pod_that_cannot_reach_the_api_gets_a_hint(core: client.CoreV1Api, namespace: str) -> None:
    """The API's address is a closed port, because not every pod network enforces a NetworkPolicy."""
    log = run_notebook(core, namespace, KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT="9")
    assert "error: the Kubernetes API at `https://127.0.0.1:9` does not answer this pod: " in log
    assert "hint: a NetworkPolicy may block the pod's egress to it" in log
