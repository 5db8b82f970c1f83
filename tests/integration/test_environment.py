"""The transfer of an environment: installed by the package server, served over TLS, and unpacked by pods on import.

These tests use the real uv, TLS and processes; wheels come from a folder of the test, so that no index is needed.
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
def _put_uv_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(uv.find_uv_bin()).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def wheels(tmp_path: Path) -> IndexSettings:
    folder = tmp_path / "wheels"
    _wheel(folder, "unit_alpha", "1.2", "VALUE = 12")
    _wheel(folder, "unit_beta", "3.4", "VALUE = 13", "unit-alpha>=1")
    _wheel(folder, "unit_gamma", "5.6", "VALUE = 56")
    return IndexSettings(find_links=(str(folder),), no_index=True)


REQUIREMENTS = PodRequirements(python_here(), {"unit-alpha": "1.2", "unit-beta": "3.4", "unit-gamma": "5.6"})


def _install(requirements: PodRequirements, settings: IndexSettings, tmp_path: Path) -> Path:
    site, index, scratch = tmp_path / "installed" / "packages", tmp_path / "index", tmp_path / "scratch"
    for folder in (site, index, scratch):
        folder.mkdir(parents=True)
    for name, content in settings.files().items():
        (index / name).write_bytes(content)
    install_packages(requirements, IndexSettings.from_files(index), index, site, scratch)
    return site


def _certificates(folder: Path, name: str) -> Path:
    folder.mkdir()
    make_certificates(name).write(folder)
    return folder


@contextmanager
def _serve(archives: Path, tls: Path) -> Iterator[str]:
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
def server_address(wheels: IndexSettings, tmp_path: Path) -> Iterator[str]:
    archives = tmp_path / "archives"
    archives.mkdir()
    pack_distributions(_install(REQUIREMENTS, wheels, tmp_path), archives)
    with _serve(archives, _certificates(tmp_path / "tls", "kept")) as address:
        yield address


def _requirements(address: str, **pins: str) -> PodRequirements:
    return PodRequirements(python_here(), {**REQUIREMENTS.pins, **pins}, served_at=address)


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


def test_package_server_installs_and_compiles_only_requirements(wheels: IndexSettings, tmp_path: Path) -> None:
    site = _install(REQUIREMENTS, wheels, tmp_path)
    assert {path.name for path in site.glob("*.py")} == {"unit_alpha.py", "unit_beta.py", "unit_gamma.py"}
    assert len([*site.glob("__pycache__/*.pyc")]) == 3


def test_unavailable_version(wheels: IndexSettings, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match=r"uv cannot install the environment in the cluster: .*unit-alpha==9"):
        _install(PodRequirements(python_here(), {"unit-alpha": "9"}), wheels, tmp_path)


def test_image_with_another_python_version(wheels: IndexSettings, tmp_path: Path) -> None:
    with pytest.raises(
        RequirementsError, match=rf"the image has Python {python_here()}, but this environment has 2\.7"
    ):
        _install(PodRequirements("2.7", {}), wheels, tmp_path)
    with pytest.raises(RequirementsError, match="but this environment has 2"):
        ensure_requirements(PodRequirements("2.7", {}), tmp_path, tmp_path)


def _unpacked(site: Path) -> set[str]:
    return {path.name for path in site.glob("unit_*.py")}


def test_packages_are_unpacked_on_import(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    assert metadata.version("unit-gamma") == "5.6"
    assert _unpacked(site) == set()
    import unit_beta  # type: ignore[import-not-found]

    assert unit_beta.VALUE == 13
    assert _unpacked(site) == {"unit_alpha.py", "unit_beta.py"}  # with its requirement
    assert Path(unit_beta.__cached__).exists()  # compiled by the package server
    assert importlib.util.find_spec("unit_gamma") is not None
    assert _unpacked(site) == {"unit_alpha.py", "unit_beta.py", "unit_gamma.py"}
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("unit_delta")


def test_requirements_are_unpacked_first() -> None:
    index = ArchiveIndex({"a": ["a-dist"]}, {"a-dist": ["b", "c"], "b": ["d"], "c": ["d", "a-dist"]})
    order = index.required_for("a")
    assert sorted(order) == ["a-dist", "b", "c", "d"]
    assert order[-1] == "a-dist"
    assert index.required_for("unknown") == []


def test_restarted_pod_does_not_unpack_again(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    importlib.import_module("unit_alpha")
    (site / "unit_alpha.py").write_text("VALUE = 'as it was'")
    for name in ("unit_alpha", "unit_beta"):
        sys.modules.pop(name, None)
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, UnpackOnImport)]
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    assert importlib.import_module("unit_alpha").VALUE == "as it was"


def test_package_server_is_reached_without_a_proxy(
    server_address: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert ensure_requirements(_requirements(server_address), site, tmp_path / "tls", timeout=1.0) > 0


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


def test_child_forked_during_unpacking_does_not_keep_the_lock(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("locked again\n", "")


def test_truncated_file_is_unpacked_again(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    (site / "unit_alpha.py").write_text("VAL")
    assert importlib.import_module("unit_alpha").VALUE == 12


def test_concurrent_imports(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    with ThreadPoolExecutor(3) as pool:
        modules = [*pool.map(importlib.import_module, ["unit_alpha", "unit_beta", "unit_gamma"])]
    assert [module.VALUE for module in modules] == [12, 13, 56]


def test_child_process_has_the_unpacked_packages(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls")
    done = subprocess.run(
        [sys.executable, "-c", "import unit_beta; print(unit_beta.VALUE)"],
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}, capture_output=True, text=True, timeout=DEADLINE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("13\n", "")


def test_import_fails_if_the_archive_is_unavailable(server_address: str, site: Path, tmp_path: Path) -> None:
    ensure_requirements(_requirements(server_address), site, tmp_path / "tls", timeout=0.5)
    (tmp_path / "archives" / "unit-alpha").unlink()
    with pytest.raises(ImportError, match=r"the environment at `.*` is not available"):
        importlib.import_module("unit_alpha")


def test_pod_with_all_requirements_needs_no_server(site: Path, tmp_path: Path) -> None:
    assert (
        ensure_requirements(PodRequirements(python_here(), {"dask": __import__("dask").__version__}), site, tmp_path)
        == 0
    )


def test_all_version_mismatches_of_an_image_are_reported(site: Path, tmp_path: Path) -> None:
    with pytest.raises(RequirementsError) as raised:
        ensure_requirements(PodRequirements(python_here(), {"dask": "1.0", "unit-gamma": "2"}), site, tmp_path)
    installed = __import__("dask").__version__
    assert str(raised.value) == (
        "the pods do not have the versions of this environment:"
        f" dask 1.0 here, {installed} there, unit-gamma 2 here, none there"
    )


@pytest.mark.parametrize("certificate", ["another's certificate", "no certificate"])
def test_server_rejects_other_clients(server_address: str, tmp_path: Path, certificate: str) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt"))
    context.check_hostname = False
    if certificate == "another's certificate":
        tls = _certificates(tmp_path / "other", "kept")
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(f"https://{server_address}/{METADATA_ARCHIVE}", timeout=DEADLINE, context=context).read()


def test_silent_client_does_not_block_the_server(server_address: str, site: Path, tmp_path: Path) -> None:
    host, port = server_address.split(":")
    with socket.create_connection((host, int(port))):
        assert ensure_requirements(_requirements(server_address), site, tmp_path / "tls") > 0


def test_unreachable_package_server(site: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(RequirementsError, match=rf"the environment at `{address}` is not available: .*refused"):
        ensure_requirements(_requirements(address), site, _certificates(tmp_path / "tls", "kept"), timeout=1.0)


def test_entrypoint_runs_the_module_in_the_unpacked_environment(
    server_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the entrypoint as the container does, in folders of the test; the module `become` prints what it imports."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "environment.json").write_text(_requirements(server_address).as_json())
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


def test_package_server_prints_one_line_of_json(wheels: IndexSettings, tmp_path: Path) -> None:
    """The client reads the line from the pod's log."""
    run, index = tmp_path / "run", tmp_path / "index"
    for folder in (run, index, tmp_path / "site", tmp_path / "scratch"):
        folder.mkdir()
    (run / "environment.json").write_text(REQUIREMENTS.as_json())
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
            report = json.loads(process.stdout.readline())
        finally:
            process.kill()
    assert report["distributions"] == 3
    assert report["archive_bytes"] > 0
    assert report.keys() == {"distributions", "bytes", "archive_bytes", "install_seconds", "pack_seconds"}
