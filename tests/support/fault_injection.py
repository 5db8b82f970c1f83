"""Inject faults into the cluster for tests of causes: a registry that rejects pulls, webhooks, and rules for one
namespace."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from support.fake_servers import MISSING_CA_FILE

HERE = Path(__file__).parent
IMAGE = "localhost/skjob:dev"
REGISTRY_PORT, WEBHOOK_PORT = 15990, 15991
NAME = "fake-servers"
SETTLE_SECONDS = 90.0
DELAY = "/delay"
DELAYED_LABELS = {"example.org/delay": "true"}

Object = dict[str, Any]


@dataclass(frozen=True)
class FakeServers:
    """The running pods of `fake_servers.py`: a registry on the same port of each node, webhooks behind a Service."""

    namespace: str
    authority: bytes

    def image(self, path: str) -> str:
        """Return the name of an image in this registry, which containerd reaches without TLS because it is on the
        node."""
        return f"localhost:{REGISTRY_PORT}/{path}"

    def webhook(self, path: str, namespace: str) -> Object:
        """Return the configuration of a webhook for one namespace's pods, or for objects with the label for
        `/delay`."""
        resource = "configmaps" if path == DELAY else "pods"
        service = {"name": NAME, "namespace": self.namespace, "path": path, "port": 443}
        return {
            "name": "policy.example.org",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "timeoutSeconds": 25,
            "clientConfig": {"service": service, "caBundle": base64.b64encode(self.authority).decode()},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}],
            "objectSelector": {"matchLabels": DELAYED_LABELS if path == DELAY else {}},
        }


@contextmanager
def run_fake_servers(api: client.ApiClient) -> Iterator[FakeServers]:
    """Run the fake servers in a pod on each schedulable node."""
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    namespace = f"test-{NAME}-{secrets.token_hex(4)}"
    certificate, key = _certificate(f"{NAME}.{namespace}.svc")
    core.create_namespace({"metadata": {"name": namespace}})
    try:
        files = {"fake_servers.py": (HERE / "fake_servers.py").read_text(), "tls.crt": certificate, "tls.key": key}
        core.create_namespaced_secret(namespace, {"metadata": {"name": NAME}, "stringData": files})
        ports = [{"port": 443, "targetPort": WEBHOOK_PORT}]
        core.create_namespaced_service(
            namespace, {"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}, "ports": ports}}
        )
        apps.create_namespaced_daemon_set(namespace, _daemon_set())
        deadline = time.monotonic() + 180
        while (status := apps.read_namespaced_daemon_set(NAME, namespace).status).number_ready < 1 or (
            status.number_ready < status.desired_number_scheduled
        ):
            assert time.monotonic() < deadline, "the fake servers did not start"
            time.sleep(0.2)
        yield FakeServers(namespace, certificate.encode())
    finally:
        core.delete_namespace(namespace)


def _daemon_set() -> Object:
    command = [
        "python",
        "/files/fake_servers.py",
        str(REGISTRY_PORT),
        str(WEBHOOK_PORT),
        "/files/tls.crt",
        "/files/tls.key",
    ]
    container = {
        "name": NAME,
        "image": IMAGE,
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "readinessProbe": {"tcpSocket": {"port": WEBHOOK_PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }
    pod = {
        "hostNetwork": True,  # containerd is the registry's client
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "files", "secret": {"secretName": NAME}}],
    }
    labels = {"app": NAME}
    return {
        "metadata": {"name": NAME},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def _certificate(host: str) -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


# --- rules for one namespace, in objects of the whole cluster


@contextmanager
def webhook(api: client.ApiClient, servers: FakeServers, path: str, namespace: str) -> Iterator[None]:
    """Apply a webhook to a namespace's pods in this block; wait until it is in effect, except for `/delay`."""
    admission = client.AdmissionregistrationV1Api(api)
    name = f"{NAME}-{namespace}"
    body = {"metadata": {"name": name}, "webhooks": [servers.webhook(path, namespace)]}
    if path in ("/refuse", DELAY):
        admission.create_validating_webhook_configuration(body)
        delete = admission.delete_validating_webhook_configuration
    else:
        admission.create_mutating_webhook_configuration(body)
        delete = admission.delete_mutating_webhook_configuration
    try:
        if path != DELAY:
            _settle(lambda: _is_in_effect(api, namespace, path))
        yield
    finally:
        delete(name)


@contextmanager
def policy(api: client.ApiClient, namespace: str, group: str, resource: str) -> Iterator[None]:
    """Forbid the creation of objects of this kind in a namespace, within this block."""
    admission = client.AdmissionregistrationV1Api(api)
    name = f"test-{namespace}"
    rules = [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [resource]}]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    admission.create_validating_admission_policy(
        {
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": rules},
                "validations": [{"expression": "false", "message": f"no {resource} after six o'clock"}],
            },
        }
    )
    try:
        admission.create_validating_admission_policy_binding(
            {
                "metadata": {"name": name},
                "spec": {
                    "policyName": name,
                    "validationActions": ["Deny"],
                    "matchResources": {"namespaceSelector": selector},
                },
            }
        )
        try:
            attempt = _pod() if resource == "pods" else _dask_cluster()
            _settle(lambda: "six o'clock" in _dry_run(api, namespace, group, resource, attempt))
            yield
        finally:
            admission.delete_validating_admission_policy_binding(name)
    finally:
        admission.delete_validating_admission_policy(name)


def _is_in_effect(api: client.ApiClient, namespace: str, path: str) -> bool:
    words = {"/refuse": "need an owner", "/loosen": "host namespaces", "/break": MISSING_CA_FILE["value"]}
    return words[path] in _dry_run(api, namespace, "", "pods", _pod())


def _pod() -> Object:
    """Return a pod that satisfies the restricted standard."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "try-"},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {"name": "c", "image": IMAGE, "env": [{"name": "A", "value": "B"}], "securityContext": security}
            ],
        },
    }


def _dask_cluster() -> Object:
    empty: Object = {"containers": []}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"generateName": "try-"},
        "spec": {"worker": {"replicas": 0, "spec": empty}, "scheduler": {"spec": empty, "service": {"ports": []}}},
    }


def _dry_run(api: client.ApiClient, namespace: str, group: str, resource: str, body: Object) -> str:
    """Return the API's error for an object, or what it would create."""
    try:
        if group:
            client.CustomObjectsApi(api).create_namespaced_custom_object(
                group, "v1", namespace, resource, body, dry_run="All"
            )
        else:
            return str(client.CoreV1Api(api).create_namespaced_pod(namespace, body, dry_run="All"))
    except ApiException as error:
        return str(error.body)
    return ""


def _settle(in_effect: Callable[[], bool]) -> None:
    """Wait until a rule is in effect: API servers take a moment to notice one."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not in_effect():
        assert time.monotonic() < deadline, "the rule did not take effect"
        time.sleep(0.1)
