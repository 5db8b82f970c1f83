"""Time how workers get an environment of 86 distributions: kept in the namespace, by pip in each pod, and in an image.

    make kind && make bench-environment

Each way ends when both of two workers have imported scikit-learn, pandas and XGBoost. `baked` is an image that has all
of it (`--env none`). `unchanged` compares and finds nothing to do. `cold` and `warm` assume that the image has nothing,
so that all 86 are installed and sent: the first time, and when they are kept. `pip` installs the same 86 in an init
container of each of two pods, as a plain image would, without a cluster. Seconds count from the start of the command;
ratios are to `baked`, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from skjob.deploy.kubernetes.api.client import Api, connect_api
from skjob.deploy.kubernetes.image_probe import anchored
from skjob.deploy.kubernetes.manifests import run as manifest
from skjob.deploy.kubernetes.manifests.environment import package_server_job
from skjob.deploy.kubernetes.manifests.labels import RunNames, new_run_id
from skjob.deploy.kubernetes.manifests.pods import owned_by
from skjob.environment.image_cache import remember_image
from skjob.environment.index.discovery import index_settings
from skjob.environment.pod.package_server import INDEX_FOLDER

PINS = 86
ROOTS = (
    "scikit-learn", "distributed", "dask", "threadpoolctl", "pandas", "pyarrow", "xgboost-cpu", "dask-ml", "s3fs",
    "lightgbm", "moto", "flask", "flask-cors", "fsspec", "kubernetes", "pydantic", "typer",
)  # fmt: skip
IMPORTED = "import pandas, sklearn.ensemble, xgboost"
WORKERS = 2
TIMEOUT = 900

SCRIPT = f"""
    import json, time
    from dask.distributed import Client
    client = Client.current()
    ready = time.time()
    client.wait_for_workers({WORKERS}, timeout=300)
    def look():
        import os
        {IMPORTED}
        unpacked = 0
        for folder, _, files in os.walk("/skjob/site"):
            unpacked += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
        return unpacked
    unpacked = max(client.run(look).values())
    print(json.dumps({{"ready": ready, "imported": time.time(), "unpacked": unpacked}}))
"""


def pins() -> dict[str, str]:
    """Return `PINS` installed distributions, starting with `ROOTS` and their requirements."""
    found: dict[str, str] = {}
    pending = [canonicalize_name(root) for root in reversed(ROOTS)]
    while pending and len(found) < PINS:
        name = pending.pop()
        if name in found:
            continue
        found[name] = metadata.version(name)
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(requirement.name))
    return found


def run(folder: Path, image: str, namespace: str, env: str, cache: Path) -> dict[str, float]:
    """Run skjob with this environment. Return the seconds to each moment, and the megabytes that a worker unpacked."""
    command = [
        sys.executable, "-m", "skjob", "run", "--on", "kubernetes", "--workers", str(WORKERS),
        "--image", image, "--namespace", namespace, "--worker-cpu", "100m", "--worker-memory", "1Gi", "--env", env,
        "--start-timeout", "15m", "train.py",
    ]  # fmt: skip
    began = time.time()
    variables = os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(command)}` failed:\n{done.stderr}")
    output = json.loads(done.stdout.splitlines()[-1])
    record = max((folder / ".skjob" / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    environment = json.loads(record.read_text())["cluster"]["environment"]
    return {
        "ready": output["ready"] - began,
        "imported": output["imported"] - began,
        "unpacked": output["unpacked"] / 1e6,
        "kept": environment.get("bytes", 0) / 1e6,
        "archives": environment.get("archive_bytes", 0) / 1e6,
    }


def pip_in_each_pod(api: Api, image: str, requirements: str) -> dict[str, float]:
    """Time two pods that install with pip in an init container and then import."""
    index = index_settings(os.environ, Path.cwd())
    names = RunNames(new_run_id(), "pip", "bench")
    namespace = api.context.namespace
    job = package_server_job(names, namespace, image, [*index.files()], TIMEOUT)
    job["spec"] |= {"parallelism": WORKERS, "completions": WORKERS}
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    del container["readinessProbe"], container["ports"]
    variables = [{"name": name, "value": value} for name, value in index.pip_variables(Path(INDEX_FOLDER)).items()]
    path = [{"name": "PYTHONPATH", "value": "/skjob/site"}, {"name": "HOME", "value": "/tmp"}]  # noqa: S108
    install = ["python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--only-binary", ":all:"]
    install += ["--target", "/skjob/site", "--requirement", "/skjob/run/requirements.txt"]
    pod["initContainers"] = [{**container, "name": "pip", "command": install, "env": [*variables, *path]}]
    container |= {"command": ["python", "-c", IMPORTED], "env": path}
    began = time.time()
    with anchored(api, job) as anchor:
        files = manifest.files(names, namespace, b"", None)
        files["data"] = {"requirements.txt": requirements}
        secret = manifest.secret(names, namespace, {"ca.crt": b"", "tls.crt": b"", "tls.key": b"", **index.files()})
        for content in (files, secret):
            api.create(owned_by(anchor, content))
        while (status := api.get("Job", names.cluster, namespace).get("status", {})).get("succeeded", 0) < WORKERS:
            if status.get("failed") or time.time() - began > TIMEOUT:
                sys.exit(f"pip did not install the environment: {status}")
            time.sleep(0.5)
        return {"imported": time.time() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", default="localhost/skjob:dev")
    parser.add_argument("--context", default="kind-skjob")
    parser.add_argument("--namespace", default="default")
    options = parser.parse_args()
    api = connect_api(options.context, options.namespace)
    chosen = pins()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
        everything, nothing = folder / "all.txt", folder / "none.txt"
        everything.write_text("".join(f"{name}=={version}\n" for name, version in sorted(chosen.items())))
        nothing.write_text(f"dask=={metadata.version('dask')}\n")
        (folder / "cache").mkdir()
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")

        def skjob(env: str) -> dict[str, float]:
            return run(folder, options.image, options.namespace, env, folder / "cache")

        # XGBoost is not in the image: what is baked imports the rest.
        (folder / "train.py").write_text(textwrap.dedent(SCRIPT).replace(", xgboost", ""))
        rows["baked"] = skjob("none")
        skjob(str(nothing))  # looks into the image, once
        rows["unchanged"] = skjob(str(nothing))
        (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
        remember_image(options.image, {})
        rows["cold"] = skjob(str(everything))
        rows["warm"] = skjob(str(everything))
        rows["pip"] = pip_in_each_pod(api, options.image, everything.read_text())

    cold, baked = rows["cold"], rows["baked"]["imported"]
    size = f"{cold['kept']:.0f} MB, {cold['archives']:.0f} MB compressed"
    print(f"{len(chosen)} distributions, {size}; {WORKERS} workers\n")
    print("| way | ready, s | both have imported, s | x baked | unpacked by a worker, MB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for way, row in rows.items():
        ready, unpacked = (f"{row[key]:.1f}" if key in row else "–" for key in ("ready", "unpacked"))
        print(f"| {way} | {ready} | {row['imported']:.1f} | {row['imported'] / baked:.2f} | {unpacked} |")


if __name__ == "__main__":
    main()
