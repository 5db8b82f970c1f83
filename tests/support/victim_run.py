"""The run that most tests in `security/` attack.

Its user has only the Role that skjob requires, in a namespace that admits only restricted pods whose containers declare
their resources. The run waits while it is attacked from this machine and from other pods; its program reports what a
task can see. It differs from other runs in that the key of its certificate authority is kept, so that the tests can
create an expired certificate signed by it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from skjob.deploy.kubernetes.api.client import Api, connect_api
from skjob.environment.index.settings import with_credentials
from support.forged_certificates import forge
from support.runs import DEADLINE, Runs

STORAGE_SECRET = "storage-secret-3f9a1c-not-to-be-seen"
INDEX_PASSWORD = "index-password-3f9a1c-not-to-be-seen"
SECRET_VARIABLE = "secret-variable-3f9a1c-not-to-be-seen"
RUN_OPTIONS = ("--env", "packages.txt", "--workers", "2", "--secret-env", "MY_SECRET_VARIABLE")

PROGRAM = """
    import json, time
    from pathlib import Path
    from dask.distributed import Client
    from skjob.utils.dask_client import workers_of

    def inspect(_=0):
        import hashlib, os, ssl, sysconfig, urllib.error, urllib.request
        def write(folder):
            try:
                with open(f"{folder}/planted", "w") as file:
                    file.write("planted")
            except OSError as error:
                return type(error).__name__, error.strerror
            return "written", ""
        def get_status(path):
            url, context = f"https://kubernetes.default.svc{path}", ssl._create_unverified_context()
            for retries in (2, 1, 0):
                try:
                    return urllib.request.urlopen(url, context=context, timeout=60).status
                except urllib.error.HTTPError as error:
                    return error.code
                except OSError:
                    if not retries:
                        raise
        try:
            os.setuid(0)
            root = "became root"
        except OSError as error:
            root = error.strerror
        secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        variable = os.environ.get("MY_SECRET_VARIABLE", "")
        return {
            "writes": {folder: write(folder) for folder in
                       ("/", "/etc", sysconfig.get_paths()["purelib"], "/skjob/run", "/skjob/tls", "/tmp")},
            "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            "api": get_status("/api/v1/namespaces/NAMESPACE/secrets"),
            "user": os.getuid(),
            "root": root,
            "storage": hashlib.sha256(secret.encode()).hexdigest(),
            "variable": hashlib.sha256(variable.encode()).hexdigest(),
        }

    client = Client.current()
    client.wait_for_workers(2, timeout=180)
    workers = client.ncores()
    report = {
        "forwarded": client.scheduler.address,
        "workers": list(workers),
        # As Dask tasks: skjob would run joblib tasks that write files in this process.
        "in workers": client.gather(client.map(inspect, range(4), pure=False)),
        "in the scheduler": client.run_on_scheduler(inspect),
    }
    print(json.dumps(report), flush=True)
    while not Path("attacked").exists():
        time.sleep(0.1)
    workers = workers_of(client).values()
    print(json.dumps(sorted(worker["name"] for worker in workers)), flush=True)
"""

LAUNCHER = """
    import os, sys
    from pathlib import Path
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from skjob.cli.app import main

    generate, folder = ec.generate_private_key, Path(os.environ["KEYS"])

    def generate_and_keep(curve):
        key = generate(curve)
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / str(len(list(folder.iterdir())))).write_bytes(content)
        return key

    ec.generate_private_key = generate_and_keep
    main()
"""


class VictimRun:
    """The attacked run, while its program is running."""

    def __init__(self, api: Api, runs: Runs, process: subprocess.Popen[str], keys: Path, certificates: Path) -> None:
        assert process.stdout is not None
        self.api = api
        self.runs = runs
        self.process = process
        self.namespace = runs.namespace
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        self.report: dict[str, Any] = json.loads(line)
        self.record = runs.record()
        self.name: str = self.record["cluster"]["name"]
        self.run_id: str = self.record["run_id"]
        self.pods = api.list("Pod", self.namespace, selector="skjob/run")
        self.secret = {
            name: base64.b64decode(value)
            for name, value in api.get("Secret", self.name, self.namespace)["data"].items()
        }
        self.certificates = certificates
        forge(certificates, self.secret, keys.joinpath("0").read_bytes())

    def pod(self, component: str) -> dict[str, Any]:
        label = "app.kubernetes.io/component"
        return next(pod for pod in self.pods if pod["metadata"]["labels"].get(label) == component)

    @property
    def scheduler(self) -> tuple[str, int]:
        """Address of the scheduler for the client: this end of the port-forward."""
        host, port = self.report["forwarded"].removeprefix("tls://").split(":")
        return host, int(port)

    @property
    def secrets(self) -> dict[str, list[str]]:
        """Secrets that must not be visible to others, in each form in which they may appear."""
        key = self.secret["tls.key"]
        return {
            "the private key": [key.decode().splitlines()[1], base64.b64encode(key).decode()[40:100]],
            "the storage credentials": [STORAGE_SECRET, base64.b64encode(STORAGE_SECRET.encode()).decode()[:40]],
            "a secret variable": [SECRET_VARIABLE, base64.b64encode(SECRET_VARIABLE.encode()).decode()[:40]],
            "the index's password": [INDEX_PASSWORD, base64.b64encode(INDEX_PASSWORD.encode()).decode()[:40]],
        }

    @cached_property
    def ended(self) -> tuple[list[str], str]:
        """Let the run end; its workers' names, and what it wrote to stderr."""
        (self.runs.folder / "attacked").touch()
        output, errors = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, errors
        return json.loads(output), errors


@contextmanager
def attacked_run(
    user: dict[str, str], namespace: str, kubeconfig: str, temporary: pytest.TempPathFactory
) -> Iterator[VictimRun]:
    """Start the victim run; at the end nothing of it is left, not even its environment. `kubeconfig` is an
    administrator's."""
    folder, keys, certificates = (temporary.mktemp(name) for name in ("run", "keys", "certificates"))
    (folder / "packages.txt").write_text("humanize==4.12.0\n")
    (folder / "launcher.py").write_text(textwrap.dedent(LAUNCHER))
    secrets = {
        "AWS_ACCESS_KEY_ID": "ann",
        "AWS_SECRET_ACCESS_KEY": STORAGE_SECRET,
        "MY_SECRET_VARIABLE": SECRET_VARIABLE,
        "UV_DEFAULT_INDEX": with_credentials(configured_index(), "ann", INDEX_PASSWORD),
        "XDG_CACHE_HOME": str(temporary.getbasetemp() / "cache"),
        "KEYS": str(keys),
    }
    runs = Runs(folder, user | secrets, namespace)
    command = runs.command(PROGRAM.replace("NAMESPACE", namespace), *RUN_OPTIONS)
    command[1:3] = ["launcher.py"]
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("KUBECONFIG", kubeconfig)
        api = connect_api("kind-skjob", namespace)
        process = stack.enter_context(
            subprocess.Popen(
                command, cwd=folder, env=runs.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        stack.callback(process.kill)
        run = VictimRun(api, runs, process, keys, certificates)
        yield run
        assert run.ended
        done = Runs(folder, user, namespace).skjob("down", "--all")
        assert done.returncode == 0, done.stderr


def configured_index() -> str:
    """Return the index that this machine installs from; the public one ignores credentials."""
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    return next((os.environ[name] for name in names if name in os.environ), "https://pypi.org/simple")
