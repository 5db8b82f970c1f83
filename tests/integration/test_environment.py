"""An environment on its way: installed by the package server, served over TLS, unpacked by a pod as it imports.

Real uv, real TLS, real processes; the wheels come from a folder of the test's own, so that no index is asked.
"""

import importlib
import importlib.util
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
import uv
from waiting import DEADLINE

from skjob.environment.index.settings import IndexSettings
from skjob.environment.pod.archives import pack_distributions
from skjob.environment.pod.entrypoint import RequirementsError, ensure_requirements
from skjob.environment.pod.lazy_import import METADATA_ARCHIVE, ArchiveIndex, UnpackOnImport
from skjob.environment.pod.package_server import install_packages, make_server
from skjob.environment.pod.requirements import PodRequirements, python_here
from skjob.utils.tls import make_certificates

ROOT = Path(__file__).parents[2]


def _wheel(folder: Path, name: str, version: str, source: str, requires: str = "") -> None:
    folder.mkdir(exist_ok=True)
    requires = f"Requires-Dist: {requires}\n" * bool(requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        wheel.writestr(f"{name}.py", source)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n")


@pytest.fixture(autouse=True)
def _uv_is_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(uv.find_uv_bin()).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def wheels(tmp_path: Path) -> IndexSettings:
    folder = tmp_path / "wheels"
    _wheel(folder, "unit_alpha", "1.2", "VALUE = 12")
    _wheel(folder, "unit_beta", "3.4", "VALUE = 13", "unit-alpha>=1")
    _wheel(folder, "unit_gamma", "5.6", "VALUE = 56")
    return IndexSettings(find_links=(str(folder),), no_index=True)


NEEDS = PodRequirements(python_here(), {"unit-alpha": "1.2", "unit-beta": "3.4", "unit-gamma": "5.6"})


def _install(needs: PodRequirements, settings: IndexSettings, tmp_path: Path) -> Path:
    site, index, scratch = tmp_path / "made" / "packages", tmp_path / "index", tmp_path / "scratch"
    for folder in (site, index, scratch):
        folder.mkdir(parents=True)
    for name, content in settings.files().items():
        (index / name).write_bytes(content)
    install_packages(needs, IndexSettings.from_files(index), index, site, scratch)
    return site


def _certificates(folder: Path, name: str) -> Path:
    folder.mkdir()
    make_certificates(name).write(folder)
    return folder


@contextmanager
def _serving(archives: Path, tls: Path) -> Iterator[str]:
    server = make_server(archives, tls, port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE)


@pytest.fixture
def served(wheels: IndexSettings, tmp_path: Path) -> Iterator[str]:
    archives = tmp_path / "archives"
    archives.mkdir()
    pack_distributions(_install(NEEDS, wheels, tmp_path), archives)
    with _serving(archives, _certificates(tmp_path / "tls", "kept")) as address:
        yield address


def _needs(address: str, **pins: str) -> PodRequirements:
    return PodRequirements(python_here(), {**NEEDS.pins, **pins}, served_at=address)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_is_installed_is_compiled_and_no_more_than_asked_for(wheels: IndexSettings, tmp_path: Path) -> None:
    made = _install(NEEDS, wheels, tmp_path)
    assert {path.name for path in made.glob("*.py")} == {"unit_alpha.py", "unit_beta.py", "unit_gamma.py"}
    assert len([*made.glob("__pycache__/*.pyc")]) == 3


def test_a_version_that_can_not_be_had(wheels: IndexSettings, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"uv cannot install the environment in the cluster: .*unit-alpha==9"):
        _install(PodRequirements(python_here(), {"unit-alpha": "9"}), wheels, tmp_path)


def test_another_python(wheels: IndexSettings, tmp_path: Path) -> None:
    with pytest.raises(
        RequirementsError, match=rf"the image has Python {python_here()}, but this environment has 2\.7"
    ):
        _install(PodRequirements("2.7", {}), wheels, tmp_path)
    with pytest.raises(RequirementsError, match="but this environment has 2"):
        ensure_requirements(PodRequirements("2.7", {}), tmp_path, tmp_path)


def _unpacked(site: Path) -> set[str]:
    return {path.name for path in site.glob("unit_*.py")}


def test_a_pod_knows_what_there_is_and_gets_what_it_imports(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    assert metadata.version("unit-gamma") == "5.6"
    assert _unpacked(site) == set()
    import unit_beta  # type: ignore[import-not-found]

    assert unit_beta.VALUE == 13
    assert _unpacked(site) == {"unit_alpha.py", "unit_beta.py"}  # with what it requires
    assert Path(unit_beta.__cached__).exists()  # compiled by the package server
    assert importlib.util.find_spec("unit_gamma") is not None
    assert _unpacked(site) == {"unit_alpha.py", "unit_beta.py", "unit_gamma.py"}
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("unit_delta")


def test_what_requires_another_gets_it_first() -> None:
    index = ArchiveIndex({"a": ["a-dist"]}, {"a-dist": ["b", "c"], "b": ["d"], "c": ["d", "a-dist"]})
    order = index.required_for("a")
    assert sorted(order) == ["a-dist", "b", "c", "d"]
    assert order[-1] == "a-dist"
    assert index.required_for("unknown") == []


def test_a_second_life_of_a_pod_unpacks_nothing_again(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    importlib.import_module("unit_alpha")
    (site / "unit_alpha.py").write_text("VALUE = 'as it was'")
    for name in ("unit_alpha", "unit_beta"):
        sys.modules.pop(name, None)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, UnpackOnImport)]
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    assert importlib.import_module("unit_alpha").VALUE == "as it was"


def test_a_proxy_is_not_asked_for_what_is_in_the_namespace(
    served: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert ensure_requirements(_needs(served), site, tmp_path / "tls", timeout=1.0) > 0


FORKING = """
import os, pathlib, signal, sys, time
from skjob.environment.pod.lazy_import import _locked

site = pathlib.Path(sys.argv[1])
with _locked(site, time.monotonic() + 5):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
try:
    with _locked(site, time.monotonic() + 5):
        print("locked again")
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_a_process_forked_in_mid_unpacking_holds_up_nobody(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("locked again\n", "")


def test_what_was_cut_short_is_unpacked_again(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    (site / "unit_alpha.py").write_text("VAL")
    assert importlib.import_module("unit_alpha").VALUE == 12


def test_two_threads_import_at_once(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    with ThreadPoolExecutor(3) as pool:
        found = [*pool.map(importlib.import_module, ["unit_alpha", "unit_beta", "unit_gamma"])]
    assert [module.VALUE for module in found] == [12, 13, 56]


def test_a_process_that_a_task_starts_has_the_same(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls")
    done = subprocess.run(
        [sys.executable, "-c", "import unit_beta; print(unit_beta.VALUE)"],
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("13\n", "")


def test_an_import_of_what_can_not_be_had(served: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_needs(served), site, tmp_path / "tls", timeout=0.5)
    (tmp_path / "archives" / "unit-alpha").unlink()
    with pytest.raises(ImportError, match=r"the environment at `.*` is not available"):
        importlib.import_module("unit_alpha")


def test_a_pod_that_has_everything_asks_nobody(site: Path, tmp_path: Path) -> None:
    assert (
        ensure_requirements(PodRequirements(python_here(), {"dask": __import__("dask").__version__}), site, tmp_path)
        == 0
    )


def test_an_image_that_is_another_than_it_was_is_told_with_all_that_differs(site: Path, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError) as raised:
        ensure_requirements(PodRequirements(python_here(), {"dask": "1.0", "unit-gamma": "2"}), site, tmp_path)
    there = __import__("dask").__version__
    assert str(raised.value) == (
        "the pods do not have the versions of this environment:"
        f" dask 1.0 here, {there} there, unit-gamma 2 here, none there"
    )


@pytest.mark.parametrize("other", ["another's certificate", "no certificate"])
def test_nobody_else_gets_it(served: str, tmp_path: Path, other: str) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
    context.check_hostname = False
    if other == "another's certificate":
        tls = _certificates(tmp_path / "other", "kept")
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"https://{served}/{METADATA_ARCHIVE}", timeout=DEADLINE, context=context).read()


def test_whoever_says_nothing_holds_up_nobody(served: str, site: Path, tmp_path: Path) -> None:
    host, port = served.split(":")
    with socket.create_connection((host, int(port))):
        assert ensure_requirements(_needs(served), site, tmp_path / "tls") > 0


def test_a_package_server_that_does_not_come_back(site: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(RequirementsError, match=rf"the environment at `{address}` is not available: .*refused"):
        ensure_requirements(_needs(address), site, _certificates(tmp_path / "tls", "kept"), timeout=1.0)


def test_the_pod_becomes_dask_with_the_environment_that_it_unpacked(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the container runs it, in folders of the test's own; the module is one that says what it sees."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "environment.json").write_text(_needs(served).as_json())
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "become.py").write_text(
        "import sys, unit_beta; print(unit_beta.VALUE, sys.argv[1:], __name__)"
    )
    (tmp_path / "site").mkdir()
    start = (
        f"from skjob.environment.pod import entrypoint; entrypoint.RUN_FOLDER = {str(run)!r};"
        f"entrypoint.SITE_FOLDER = {str(tmp_path / 'site')!r};"
        f"entrypoint.SERVER_TLS_FOLDER = {str(tmp_path / 'tls')!r}; entrypoint.main()"
    )
    path = os.pathsep.join([str(tmp_path / "site"), str(tmp_path / "module"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", start, "become", "--port", "1"],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.stdout == "13 ['--port', '1'] __main__\n", done.stderr
    assert done.stderr.startswith("skjob: the environment is ready after ")


def test_what_the_package_server_says_of_its_work_is_one_line_of_json(wheels: IndexSettings, tmp_path: Path) -> None:
    """The client reads it from the pod's log."""
    run, index = tmp_path / "run", tmp_path / "index"
    for folder in (run, index, tmp_path / "site", tmp_path / "scratch"):
        folder.mkdir()
    (run / "environment.json").write_text(NEEDS.as_json())
    for name, content in wheels.files().items():
        (index / name).write_bytes(content)
    tls = _certificates(tmp_path / "tls", "kept")
    start = (
        "from skjob.environment.pod import package_server as server; from pathlib import Path;"
        f"server.RUN_FOLDER, server.INDEX_FOLDER = {str(run)!r}, {str(index)!r};"
        f"server.SITE_FOLDER, server.SERVER_TLS_FOLDER = {str(tmp_path / 'site')!r}, {str(tls)!r};"
        f"server.TEMP_FOLDER, server.PORT = {str(tmp_path / 'scratch')!r}, 0; server.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", start], env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
        finally:
            process.kill()
    assert told["distributions"] == 3
    assert told["archive_bytes"] > 0
    assert told.keys() == {"distributions", "bytes", "archive_bytes", "install_seconds", "pack_seconds"}
