"""Measure where the seconds of a start go: skjob beside stock KubeCluster, on the same cluster, in turns.

    make kind && make bench-startup

Stock KubeCluster is given what it needs to work with current distributed: the commands `dask scheduler` and `dask
worker` in a custom spec, the same image, the same requests. Everything else is its default, without TLS. Both are timed
from the start of the Python process. Ratios compare the medians of the moments that both have; then each one's own
steps follow, from its log or record and from a watch on its pods.

Stock KubeCluster waits for a `status.phase` that a race in the operator may never set, and gives up after 60 s. Such
starts are counted and repeated: the times are those of successful starts.
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

from kubernetes import config
from startup_watch import Watched

CPU, MEMORY, WORKERS = "100m", "512Mi", 2
GOALS = {"first task": 0.2, "two workers": 0.25}

SHARED = ("client ready", "first task", "two workers", "exit", "nothing left")

SCRIPT = """
    import json, time
    from dask.distributed import Client
    moments = {"client ready": time.time()}
    client = Client.current()
    assert client.submit(sum, [1, 2]).result() == 3
    moments["first task"] = time.time()
    client.wait_for_workers(2)
    moments["two workers"] = moments["end of the program"] = time.time()
    print(json.dumps(moments))
"""

STOCK = """
    import json, sys, time
    from dask_kubernetes.operator import KubeCluster
    from distributed import Client

    moments = {"imported": time.time()}

    class Logged(KubeCluster):
        def _log(self, log):
            moments[log.partition(",")[0]] = time.time()
            super()._log(log)

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
    with Logged(custom_cluster_spec=spec, namespace=namespace, quiet=True) as cluster, Client(cluster) as client:
        moments["client ready"] = time.time()
        assert client.submit(sum, [1, 2]).result() == 3
        moments["first task"] = time.time()
        client.wait_for_workers(2)
        moments["two workers"] = moments["end of the program"] = time.time()
        print(json.dumps(moments))
"""

RACE = "Dask Cluster resource not actioned"


def timed(command: list[str], folder: Path, namespace: str) -> dict[str, float] | None:
    """Run a command. Return the seconds to each of its moments, in order; None if it lost the race."""
    watched = Watched(config.new_client_from_config(), namespace)
    try:
        began = time.time()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        ended = time.time()
        if RACE in done.stderr:
            return None
        if done.returncode != 0:
            sys.exit(f"`{' '.join(command[:6])} …` failed:\n{done.stderr}")
        moments = json.loads(done.stdout.splitlines()[-1])
        moments |= watched.moments() | {"exit": ended, "nothing left": watched.gone()}
    finally:
        watched.end()
    return {name: at - began for name, at in sorted(moments.items(), key=lambda moment: moment[1])}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each moment that every run had, in order."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    found = {name: statistics.median(run[name] for run in runs) for name in names}
    return dict(sorted(found.items(), key=lambda moment: moment[1]))


def table(title: str, rows: dict[str, float]) -> None:
    """Print moments, and the seconds since the one before."""
    print(f"\n| {title} | at, s | step, s |\n| --- | ---: | ---: |")
    before = 0.0
    for name, at in rows.items():
        print(f"| {name} | {at:.1f} | {at - before:.1f} |")
        before = at


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
            sys.executable, "-m", "skjob", "run", "--on", "kubernetes", "--workers", str(WORKERS),
            "--image", options.image, "--namespace", options.namespace,
            "--worker-cpu", CPU, "--worker-memory", MEMORY, "--env", "none",
            "train.py",
        ]  # fmt: skip
        theirs = [sys.executable, "stock.py", options.image, options.namespace, str(WORKERS), CPU, MEMORY]
        for _ in range(options.rounds):
            for runs, command in ((skjob, ours), (stock, theirs)):
                while (moments := timed(command, folder, options.namespace)) is None:
                    lost += 1
                runs.append(moments)
        for path in sorted((folder / ".skjob" / "runs").glob("*/run.json")):
            for step in json.loads(path.read_text())["steps"]:
                steps.setdefault(step["name"], []).append(step["seconds"])

    print(f"{options.rounds} rounds, {WORKERS} workers, medians in seconds since Enter")
    print(f"stock KubeCluster gave up {lost} times of {lost + options.rounds}, 60 s each, which are not counted\n")
    print("| moment | skjob | stock KubeCluster | ratio | goal |\n| --- | ---: | ---: | ---: | ---: |")
    mine, other = medians(skjob), medians(stock)
    for name in SHARED:
        ratio = mine[name] / other[name]
        print(f"| {name} | {mine[name]:.1f} | {other[name]:.1f} | {ratio:.2f} | {GOALS.get(name, '')} |")
    left = {name: run["nothing left"] - run["end of the program"] for name, run in (("skjob", mine), ("stock", other))}
    print(
        f"\nfrom the end of the program until nothing is left: skjob {left['skjob']:.1f} s, stock {left['stock']:.1f} s"
    )
    table("skjob: moment", mine)
    print("\n| skjob: step of its record | s |\n| --- | ---: |")
    for name, seconds in steps.items():
        print(f"| {name} | {statistics.median(seconds):.2f} |")
    table("stock KubeCluster: moment", other)


if __name__ == "__main__":
    main()
