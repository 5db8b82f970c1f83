"""Where the seconds of a start go: skjob beside stock KubeCluster, on the same cluster, turn by turn in one run.

    make kind && make bench-startup

Stock KubeCluster is given what it needs to work with current distributed: the commands `dask scheduler` and `dask
worker` in a spec of its own, the same image, the same requests. Everything else is as it comes, without TLS. Both are
timed from the start of the Python process: `ready` is when a client can submit, `first task` when the first result is
back, `all` when the process has ended and its cluster is deleted. Ratios compare the medians.

Stock KubeCluster waits for a `status.phase` that a race in the operator may never set, and gives up after 60 s. Such
starts are counted and started again: the times are those of the starts that went well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

CPU, MEMORY, WORKERS = "100m", "512Mi", 2

SCRIPT = """
    import json, sys, time
    from dask.distributed import Client
    ready = time.time()
    assert Client.current().submit(sum, [1, 2]).result() == 3
    print(json.dumps({"ready": ready, "first task": time.time()}))
"""

STOCK = """
    import json, sys, time
    from dask_kubernetes.operator import KubeCluster
    from distributed import Client

    image, namespace, workers, cpu, memory = sys.argv[1:]
    resources = {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}

    def container(name, *args, **extra):
        return {"name": name, "image": image, "args": list(args), "resources": resources, **extra}

    ports = [{"name": "tcp-comm", "containerPort": 8786}, {"name": "http-dashboard", "containerPort": 8787}]
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 1, "timeoutSeconds": 300}
    service_ports = [{"name": port["name"], "port": port["containerPort"]} for port in ports]
    scheduler = container("scheduler", "dask", "scheduler", ports=ports, readinessProbe=probe)
    name = f"stock-{int(time.time())}"
    spec = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "worker": {
                "replicas": int(workers),
                "spec": {"containers": [container("worker", "dask", "worker", "--name", "$(DASK_WORKER_NAME)")]},
            },
            "scheduler": {
                "spec": {"containers": [scheduler]},
                "service": {
                    "type": "ClusterIP",
                    "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
                    "ports": service_ports,
                },
            },
        },
    }
    with KubeCluster(custom_cluster_spec=spec, namespace=namespace, quiet=True) as cluster, Client(cluster) as client:
        ready = time.time()
        assert client.submit(sum, [1, 2]).result() == 3
        print(json.dumps({"ready": ready, "first task": time.time()}))
"""


RACE = "Dask Cluster resource not actioned"


def timed(command: list[str], folder: Path) -> dict[str, float] | None:
    """Run a command; the seconds to each moment that it printed, and to its end. None where it lost the race."""
    began = time.time()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    ended = time.time()
    if RACE in done.stderr:
        return None
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command[:6])} …` failed:\n{done.stderr}")
    moments = json.loads(done.stdout.splitlines()[-1])
    return {**{name: at - began for name, at in moments.items()}, "all": ended - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", default="localhost/skjob:dev")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    skjob: list[dict[str, float]] = []
    stock: list[dict[str, float]] = []
    lost = 0
    steps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
        (folder / "stock.py").write_text(textwrap.dedent(STOCK))
        ours = [
            sys.executable, "-m", "skjob", "run", "train.py", "--on", "kubernetes", "--workers", str(WORKERS),
            "--image", options.image, "--namespace", options.namespace,
            "--worker-cpu", CPU, "--worker-memory", MEMORY, "--env", "none",
        ]  # fmt: skip
        theirs = [sys.executable, "stock.py", options.image, options.namespace, str(WORKERS), CPU, MEMORY]
        for _ in range(options.rounds):
            for runs, command in ((skjob, ours), (stock, theirs)):
                while (moments := timed(command, folder)) is None:
                    lost += 1
                runs.append(moments)
        for path in sorted((folder / ".skjob" / "runs").glob("*/run.json")):
            for step in json.loads(path.read_text())["steps"]:
                steps.setdefault(step["name"], []).append(step["seconds"])

    print(f"{options.rounds} rounds, {WORKERS} workers, medians in seconds")
    print(f"stock KubeCluster gave up {lost} times of {lost + options.rounds}, 60 s each, which are not counted\n")
    print(f"| {'moment':<12} | skjob | stock KubeCluster | ratio |\n| --- | ---: | ---: | ---: |")
    for moment in ("ready", "first task", "all"):
        mine, other = (statistics.median(run[moment] for run in runs) for runs in (skjob, stock))
        print(f"| {moment:<12} | {mine:.1f} | {other:.1f} | {mine / other:.2f} |")
    print("\n| step of skjob, from its record | seconds |\n| --- | ---: |")
    for name, seconds in steps.items():
        print(f"| {name} | {statistics.median(seconds):.2f} |")


if __name__ == "__main__":
    main()
