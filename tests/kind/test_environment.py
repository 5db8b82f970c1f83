"""The user's environment on a real Kubernetes: their installed packages in the same versions, and their own packages.

All tests use one namespace, which caches the environment. The image has another pandas than the user and none of the
user's own packages.
"""

from __future__ import annotations

import functools
import http.server
import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from support.namespaces import IMAGE, new_namespace
from support.runs import Runs
from support.user_env import OLDER_PANDAS, OTHER_PANDAS, RunsIn, UserEnvironment

from skjob.deploy.kubernetes.api.client import Api
from skjob.deploy.kubernetes.image_probe import image_contents
from skjob.environment.image_cache import known_contents, remember_image

pytestmark = pytest.mark.timeout(1200)  # the first test pays for the environment that all of them use

Result = subprocess.CompletedProcess[str]

REPORT_PACKAGES = """
    import json
    from joblib import Parallel, delayed
    import neighbour
    import user_features

    def packages(_):
        import importlib.metadata, socket
        import pandas
        return pandas.__version__, user_features.VALUE, importlib.metadata.version("user-features"), neighbour.word()

    print(json.dumps(sorted(set(Parallel()(delayed(packages)(n) for n in range(8))))))
"""


@dataclass(frozen=True)
class EnvironmentRuns:
    """Results of runs of one script, and the pods that serve their environment."""

    first: Result
    edited: Result
    """After editing the package, on the first run's cluster, which was kept."""
    refused: Result
    """On the same cluster, with another environment."""
    later: Result
    """On a new cluster."""
    package_servers: list[list[str]]
    """The package servers' pods, after the first run and at the end."""
    record: dict[str, Any]
    """The record of the later run."""


@pytest.fixture(scope="module")
def runs_of_script(
    user_runs_in: RunsIn,
    user_environment: UserEnvironment,
    kind_api: client.ApiClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> EnvironmentRuns:
    runs = user_runs_in(tmp_path_factory.mktemp("environment-runs"))
    neighbour = runs.folder / "neighbour.py"
    neighbour.write_text("def word(): return 'original'\n")
    user_environment.write("VALUE = 1\n")

    def package_servers() -> list[str]:
        selector = "app.kubernetes.io/component=environment"
        pods = client.CoreV1Api(kind_api).list_namespaced_pod(runs.namespace, label_selector=selector)
        return [pod.metadata.uid for pod in pods.items]

    first = runs.run(REPORT_PACKAGES, "--keep")
    assert first.returncode == 0, first.stderr
    servers = [package_servers()]
    [name] = re.findall(r"`skjob run --cluster (\S+) ", first.stderr)
    try:
        user_environment.write("VALUE = 'edited'\n")
        neighbour.write_text("def word(): return 'edited too'\n")
        edited = runs.run(REPORT_PACKAGES, "--cluster", name)
        (runs.folder / "packages.txt").write_text(f"pandas=={OTHER_PANDAS}\n")
        refused = runs.run(REPORT_PACKAGES, "--cluster", name, "--env", "packages.txt")
    finally:
        down = runs.skjob("down", name)
    assert down.returncode == 0, down.stderr
    later = runs.run(REPORT_PACKAGES.replace("range(8)", "range(6)"))
    return EnvironmentRuns(first, edited, refused, later, [*servers, package_servers()], runs.records()[-1])


def printed_packages(ended: Result) -> list[object]:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_edited_packages_reach_workers(runs_of_script: EnvironmentRuns) -> None:
    """The script uses an older pandas, an editable package and a module in its folder; both are edited between runs."""
    assert printed_packages(runs_of_script.first) == [[OLDER_PANDAS, 1, "1.5", "original"]]
    assert printed_packages(runs_of_script.edited) == [[OLDER_PANDAS, "edited", "1.5", "edited too"]]
    assert "leave the cluster" in runs_of_script.edited.stderr


def test_later_runs_use_the_cached_environment(runs_of_script: EnvironmentRuns) -> None:
    """Another script on another cluster uses the same package server."""
    before, after = runs_of_script.package_servers
    assert len(before) == 1
    assert after == before
    assert printed_packages(runs_of_script.later) == printed_packages(runs_of_script.edited)
    assert "installing" not in runs_of_script.later.stderr
    assert "kept" in runs_of_script.record["cluster"]["environment"]


def test_cluster_with_another_environment_is_rejected(runs_of_script: EnvironmentRuns) -> None:
    assert runs_of_script.refused.returncode == 124
    mismatch = rf"the cluster `\S+` has another environment: .*pandas {OTHER_PANDAS} here, {OLDER_PANDAS} there"
    assert re.search(mismatch, runs_of_script.refused.stderr), runs_of_script.refused.stderr
    assert runs_of_script.refused.stdout == ""


@pytest.mark.slow  # installs everything from the index, which takes long
def test_environment_is_installed_in_the_python_image(
    user_runs: Runs, user_namespace: str, kind_api: client.ApiClient
) -> None:
    """A run without a configured image uses Python's, which has no packages: all come from the index, including uv."""
    core = client.CoreV1Api(kind_api)
    (user_runs.folder / "packages.txt").write_text("humanize==4.12.0\n")
    script = """
        import sklearn
        from joblib import Parallel, delayed
        def version(_):
            import humanize, sklearn
            return humanize.__version__, sklearn.__version__
        print(set(Parallel()(delayed(version)(i) for i in range(4))) == {("4.12.0", sklearn.__version__)})
    """
    core.patch_namespaced_config_map("skjob-defaults", user_namespace, {"data": {"image": None}})
    try:
        ended = user_runs.run(script, "--workers", "1", "--env", "packages.txt")
    finally:
        core.patch_namespaced_config_map("skjob-defaults", user_namespace, {"data": {"image": IMAGE}})
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
    assert user_runs.record()["cluster"]["image"].endswith("-slim")


# ----------------------------------------------------------------------------- environments that cannot be installed


def _never_had_a_cluster(api: client.ApiClient, namespace: str) -> bool:
    """Return whether the namespace never had a scheduler or worker: events outlive the pods that they are about."""
    events = client.CoreV1Api(api).list_namespaced_event(namespace).items
    started = [event.involved_object.name for event in events if event.involved_object.name.startswith("skjob-train")]
    clusters = client.CustomObjectsApi(api).list_namespaced_custom_object(
        "kubernetes.dask.org", "v1", namespace, "daskclusters"
    )
    return not started and not clusters["items"]


@pytest.fixture(scope="module")
def empty_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """A namespace in which no test starts a cluster."""
    with new_namespace(kind_api) as name:
        yield name


@pytest.fixture(scope="module")
def cached_env(shared_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with one cache for all tests, so that the image is probed once."""
    return shared_env | {"XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}


@pytest.fixture
def cached_runs(tmp_path: Path, cached_env: dict[str, str], empty_namespace: str) -> Runs:
    return Runs(tmp_path, cached_env, empty_namespace)


@pytest.mark.parametrize(
    ("requirements", "environment", "messages"),
    [
        ("no-such-thing-at-all==1.0\n", {}, ["no-such-thing-at-all"]),
        ("humanize\nhumanize<1\n", {}, ["humanize"]),
        ("= is not a requirement =\n", {}, ["packages.txt"]),
        (None, {}, ["packages.txt"]),
        ("humanize==4.12.0\n", {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}, ["127.0.0.1:9"]),
        ("humanize==4.12.0\n", {"SSL_CERT_FILE": "absent.pem"}, ["absent.pem"]),
    ],
    ids=["unknown", "contradiction", "no requirements", "no file", "no index", "no certificates"],
)
def test_unavailable_packages_are_reported_before_the_cluster_starts(
    cached_runs: Runs,
    kind_api: client.ApiClient,
    requirements: str | None,
    environment: dict[str, str],
    messages: list[str],
) -> None:
    if requirements is not None:
        (cached_runs.folder / "packages.txt").write_text(requirements)
    ended = cached_runs.run_here("print('ran')", "--env", "packages.txt", **environment)
    assert ended.returncode == 120, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    for message in messages:
        assert message in ended.stderr
    assert "hint: " in ended.stderr
    assert _never_had_a_cluster(kind_api, cached_runs.namespace)


def test_index_unreachable_from_pods_is_reported_before_the_cluster_starts(
    cached_runs: Runs, kind_api: client.ApiClient
) -> None:
    """The index is on this machine's loopback interface, where the local check finds the wheel."""
    wheel = "unit_only_here-1.0-py3-none-any.whl"
    simple = cached_runs.folder / "index" / "unit-only-here"
    simple.mkdir(parents=True)
    (simple / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
    with zipfile.ZipFile(simple / wheel, "w") as content:
        info = "unit_only_here-1.0.dist-info"
        content.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: unit-only-here\nVersion: 1.0\n")
        content.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        content.writestr(f"{info}/RECORD", "")
    (cached_runs.folder / "packages.txt").write_text("unit-only-here==1.0\n")
    handler = functools.partial(QuietHandler, directory=str(cached_runs.folder / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        index = f"http://127.0.0.1:{server.server_address[1]}/"
        ended = cached_runs.run_here("print('ran')", "--env", "packages.txt", UV_DEFAULT_INDEX=index)
        server.shutdown()
    assert ended.returncode == 124, ended.stderr
    assert "cannot install the environment in the cluster" in ended.stderr
    assert ended.stdout == ""
    assert _never_had_a_cluster(kind_api, cached_runs.namespace)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


def test_outdated_cache_of_image_contents_is_detected_by_pods(
    kind_runs: Runs, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The local cache lists a package that the image does not have: the pods detect it, and the entry is removed."""
    (tmp_path / "packages.txt").write_text("humanize==4.12.0\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remember_image(IMAGE, {**image_contents(api, IMAGE, 240).distributions, "humanize": "4.12.0"})
    script, options = "print('ran')", ("--workers", "1", "--env", "packages.txt")
    ended = kind_runs.run_here(script, *options, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert ended.returncode == 124, ended.stderr
    assert "humanize 4.12.0 here, none there" in ended.stderr
    assert ended.stdout == ""
    assert known_contents(IMAGE) is None
