"""The user's environment on a real Kubernetes: what they have installed, at their versions, with their own packages.

One namespace keeps it from the first test to the last; the image has an older pandas and none of the user's packages.
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

Result = subprocess.CompletedProcess[str]

LOOKING = """
    import json
    from joblib import Parallel, delayed
    import beside
    import user_features

    def look(_):
        import importlib.metadata, socket
        import pandas
        return pandas.__version__, user_features.VALUE, importlib.metadata.version("user-features"), beside.word()

    print(json.dumps(sorted(set(Parallel()(delayed(look)(n) for n in range(8))))))
"""


@dataclass(frozen=True)
class Seen:
    """What runs of one script have shown, and who kept their environment."""

    first: Result
    edited: Result
    """On the first one's cluster, which was kept."""
    refused: Result
    """On the same, with another environment."""
    later: Result
    """On a cluster of its own."""
    servers: list[list[str]]
    """The pods that keep the environment, after the first and in the end."""
    record: dict[str, Any]
    """Of the later one."""


@pytest.fixture(scope="module")
def seen(
    user_runs_in: RunsIn,
    user_environment: UserEnvironment,
    kind_api: client.ApiClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Seen:
    runs = user_runs_in(tmp_path_factory.mktemp("looking"))
    beside = runs.folder / "beside.py"
    beside.write_text("def word(): return 'beside'\n")
    user_environment.write("VALUE = 1\n")

    def servers() -> list[str]:
        selector = "app.kubernetes.io/component=environment"
        pods = client.CoreV1Api(kind_api).list_namespaced_pod(runs.namespace, label_selector=selector)
        return [pod.metadata.uid for pod in pods.items]

    first = runs.run(LOOKING, "--keep")
    assert first.returncode == 0, first.stderr
    kept = [servers()]
    [name] = re.findall(r"`skjob run --cluster (\S+) ", first.stderr)
    try:
        user_environment.write("VALUE = 'edited'\n")
        beside.write_text("def word(): return 'edited too'\n")
        edited = runs.run(LOOKING, "--cluster", name)
        (runs.folder / "packages.txt").write_text(f"pandas=={OTHER_PANDAS}\n")
        refused = runs.run(LOOKING, "--cluster", name, "--env", "packages.txt")
    finally:
        down = runs.skjob("down", name)
    assert down.returncode == 0, down.stderr
    later = runs.run(LOOKING.replace("range(8)", "range(6)"))
    return Seen(first, edited, refused, later, [*kept, servers()], runs.records()[-1])


def found(ended: Result) -> list[object]:
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


def test_the_whole_environment_and_a_package_that_is_edited(seen: Seen) -> None:
    """An unchanged script, an editable package, an older pandas, a module beside it; then edited, on a warm cluster."""
    assert found(seen.first) == [[OLDER_PANDAS, 1, "1.5", "beside"]]
    assert found(seen.edited) == [[OLDER_PANDAS, "edited", "1.5", "edited too"]]
    assert "leave the cluster" in seen.edited.stderr


def test_what_is_kept_is_used_by_later_runs(seen: Seen) -> None:
    """Another script, another cluster; the pod that keeps the environment is the same."""
    before, after = seen.servers
    assert len(before) == 1
    assert after == before
    assert found(seen.later) == found(seen.edited)
    assert "installing" not in seen.later.stderr
    assert "kept" in seen.record["cluster"]["environment"]


def test_a_cluster_with_another_environment_is_refused(seen: Seen) -> None:
    assert seen.refused.returncode == 124
    lacking = rf"the cluster `\S+` has another environment: .*pandas {OTHER_PANDAS} here, {OLDER_PANDAS} there"
    assert re.search(lacking, seen.refused.stderr), seen.refused.stderr
    assert seen.refused.stdout == ""


@pytest.mark.slow  # the same, without an image that holds some of it
def test_pythons_own_image(user_runs: Runs, user_namespace: str, kind_api: client.ApiClient) -> None:
    """What a run takes where no image is named. It has nothing, so that all comes from the index, uv too."""
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


# ------------------------------------------------------------------------------------------------- what cannot be had


def _nothing_was_started(api: client.ApiClient, namespace: str) -> bool:
    """No scheduler or worker, not even for a moment: the events of a namespace outlive their pods."""
    events = client.CoreV1Api(api).list_namespaced_event(namespace).items
    started = [event.involved_object.name for event in events if event.involved_object.name.startswith("skjob-train")]
    clusters = client.CustomObjectsApi(api).list_namespaced_custom_object(
        "kubernetes.dask.org", "v1", namespace, "daskclusters"
    )
    return not started and not clusters["items"]


@pytest.fixture(scope="module")
def empty_namespace(kind_api: client.ApiClient) -> Iterator[str]:
    """One in which nothing is ever started."""
    with new_namespace(kind_api) as name:
        yield name


@pytest.fixture(scope="module")
def cached_env(shared_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With one cache for all tests, so that the image is looked into once."""
    return shared_env | {"XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}


@pytest.fixture
def cached_runs(tmp_path: Path, cached_env: dict[str, str], empty_namespace: str) -> Runs:
    return Runs(tmp_path, cached_env, empty_namespace)


@pytest.mark.parametrize(
    ("requirements", "environment", "told"),
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
def test_what_can_not_be_had_is_told_before_anything_starts(
    cached_runs: Runs,
    kind_api: client.ApiClient,
    requirements: str | None,
    environment: dict[str, str],
    told: list[str],
) -> None:
    if requirements is not None:
        (cached_runs.folder / "packages.txt").write_text(requirements)
    ended = cached_runs.run_here("print('ran')", "--env", "packages.txt", **environment)
    assert ended.returncode == 120, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    for words in told:
        assert words in ended.stderr
    assert "hint: " in ended.stderr
    assert _nothing_was_started(kind_api, cached_runs.namespace)


def test_an_index_that_pods_can_not_reach_is_told_before_the_cluster_starts(
    cached_runs: Runs, kind_api: client.ApiClient
) -> None:
    """On this machine's loopback, where the check here finds the wheel."""
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
    assert _nothing_was_started(kind_api, cached_runs.namespace)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_an_image_that_is_not_what_it_was_is_told_by_its_pods(
    kind_runs: Runs, api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine remembers an image of that name with one more package: the pods know better, and it forgets."""
    (tmp_path / "packages.txt").write_text("humanize==4.12.0\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remember_image(IMAGE, {**image_contents(api, IMAGE, 240).distributions, "humanize": "4.12.0"})
    script, options = "print('ran')", ("--workers", "1", "--env", "packages.txt")
    ended = kind_runs.run_here(script, *options, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert ended.returncode == 124, ended.stderr
    assert "humanize 4.12.0 here, none there" in ended.stderr
    assert ended.stdout == ""
    assert known_contents(IMAGE) is None
