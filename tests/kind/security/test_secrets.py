"""Who sees what is secret: nobody, and no later run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacked import STORAGE_SECRET, Attacked
from kubernetes import client
from runs import Runs

Row = Callable[..., None]


def test_no_secret_is_to_be_seen(
    attacked: Attacked, kind_api: client.ApiClient, security_row: Row, request: pytest.FixtureRequest
) -> None:
    """All that the API shows to whoever may not read Secrets, the logs, the arguments of processes here; then the
    record. That they are there at all is seen where they are used."""
    places = {
        "the API's objects": json.dumps(everything_but_secrets(kind_api, attacked.namespace)),
        "logs": "".join(
            attacked.api.log(pod["metadata"]["name"], attacked.namespace, lines=100_000) for pod in attacked.pods
        ),
        "arguments on this machine": arguments_of(attacked.process.pid),
        "its output": "",
        "its record": "",
    }
    assert attacked.pod("scheduler")["metadata"]["name"] in places["the API's objects"]
    assert attacked.name in places["the API's objects"]
    assert "launcher.py" in places["arguments on this machine"]
    workers, places["its output"] = attacked.ended
    assert len(workers) == 2
    places["its record"] = next((attacked.runs.folder / ".skjob").glob("runs/*/run.json")).read_text()
    for what, forms in attacked.private.items():
        for place, text in places.items():
            for form in forms:
                assert form not in text, f"{what} in {place}"
    digest = hashlib.sha256(STORAGE_SECRET.encode()).hexdigest()
    assert {seen["storage"] for seen in attacked.told["in workers"]} == {digest}
    for what in attacked.private:
        security_row(
            "nothing secret where others may look",
            f"a search for {what} in objects, events, logs, arguments, output and record",
            "not found",
            "yes",
        )


def everything_but_secrets(kind_api: client.ApiClient, namespace: str) -> list[Any]:
    """Every object of the namespace, events too."""
    apps, core, batch = client.AppsV1Api(kind_api), client.CoreV1Api(kind_api), client.BatchV1Api(kind_api)
    custom = client.CustomObjectsApi(kind_api)
    lists = [
        core.list_namespaced_pod, core.list_namespaced_config_map, core.list_namespaced_event,
        core.list_namespaced_service, apps.list_namespaced_deployment, apps.list_namespaced_replica_set,
        batch.list_namespaced_job,
    ]  # fmt: skip
    found = [kind_api.sanitize_for_serialization(each(namespace)) for each in lists]
    group = ("kubernetes.dask.org", "v1", namespace)
    return found + [custom.list_namespaced_custom_object(*group, kind) for kind in ("daskclusters", "daskworkergroups")]


def arguments_of(pid: int) -> str:
    """The arguments of a process and of all that it has started."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = (int(status[1]), (folder / "cmdline").read_text())
            except OSError:
                continue
    family, text = {pid}, ""
    for _ in range(4):
        family |= {child for child, (parent, _) in parents.items() if parent in family}
    for member in family & set(parents):
        text += parents[member][1].replace("\0", " ") + "\n"
    return text


LOOKING = """
    import os, sys
    from dask.distributed import Client
    from joblib import Parallel, delayed
    def look(_):
        return os.environ.get("AWS_SECRET_ACCESS_KEY", "none")
    Client.current().wait_for_workers(2, timeout=180)
    print(sorted(set(Parallel()(delayed(look)(i) for i in range(8)))), flush=True)
    if "stop" in sys.argv:
        os.kill(os.getppid(), 9)
"""


@pytest.mark.parametrize("end", ["its end", "its death"])
def test_the_next_run_on_a_warm_cluster_has_no_credentials_of_the_last(
    shared_namespace: str, user: dict[str, str], tmp_path: Path, end: str, security_row: Row
) -> None:
    """Whether skjob has ended or was killed; the program's end is the same."""
    runs = Runs(tmp_path, user, shared_namespace)
    up = runs.skjob("up", "warm", "--workers", "2")
    assert up.returncode == 0, up.stderr
    died = end == "its death"
    try:
        first = runs.run(
            LOOKING, "--cluster", "warm", *(["--", "stop"] if died else []),
            AWS_ACCESS_KEY_ID="ann", AWS_SECRET_ACCESS_KEY=STORAGE_SECRET,
        )  # fmt: skip
        assert first.returncode == (-9 if died else 0), first.stderr
        assert first.stdout == f"['{STORAGE_SECRET}']\n"
        second = runs.run(LOOKING, "--cluster", "warm")
        assert (second.returncode, second.stdout) == (0, "['none']\n"), second.stderr
    finally:
        down = runs.skjob("down", "warm")
    assert down.returncode == 0, down.stderr
    security_row(
        "a run's storage credentials are its own",
        f"the next run on the same warm cluster, after {end}, looks for them",
        "none there",
        "yes",
    )
