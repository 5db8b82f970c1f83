"""What a program imports from beyond its folder: which folders, in which order, and which modules by their names."""

import io
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skjob.engine.transfer import import_path, worker_plugins
from skjob.engine.transfer.import_path import Order, ProgramCode, import_order, send_new_code
from skjob.engine.transfer.modules import pack_modules
from skjob.engine.transfer.worker_plugins import NO_EXTRAS, SCRIPT_PART, Extras, WorkerModules


class Client:
    """What is sent through it is kept."""

    def __init__(self) -> None:
        self.extensions: dict[str, Any] = {}
        self.sent: list[Extras] = []


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    def send(client: Client, part: str, archive: bytes, extras: Extras = NO_EXTRAS) -> None:
        assert part == SCRIPT_PART
        client.sent.append(extras)

    monkeypatch.setattr(import_path, "send_modules", send)
    return Client()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A program's folder, which is the first of its import path, as Python has it."""
    folder = tmp_path / "project"
    for name in ("project/train.py", "project/src/unit_shop.py", "lib/unit_tools.py", "lib/unit_pack/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    installed = [entry for entry in sys.path if "site-packages" in entry or entry == import_path.sys.prefix]
    monkeypatch.setattr(sys, "path", [str(folder), *installed])
    monkeypatch.setattr(import_path, "local_modules", lambda _: list(local))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    before = set(sys.modules)
    local.clear()
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


local: list[ModuleType] = []
"""The program's modules, without those of the tests."""


def _imported(name: str) -> ModuleType:
    module = import_module(name)
    local.append(module)
    return module


def _loaded(name: str, file: Path, **options: Any) -> ModuleType:
    spec = spec_from_file_location(name, file, **options)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    local.append(module)
    return module


def _names(archive: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.namelist()


def test_folders_are_in_the_programs_order(root: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(root / "src"))
    sys.path.insert(2, str(tmp_path / "lib"))
    sys.path.append(str(tmp_path / "project" / ".." / "lib" / "unit_pack"))
    sys.path += ["/no/such/folder", str(root / "src")]
    order = import_order(root, [])
    assert order == Order((str(root / "src"),), (str(tmp_path / "lib"),), (str(tmp_path / "lib" / "unit_pack"),))


def test_of_pythonpath_only_what_the_program_has_a_use_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'lib'}:{root / 'src'}")
    sys.path[1:1] = [str(tmp_path / "lib"), str(root / "src")]
    assert import_order(root, []) == Order()
    assert import_order(root, [_imported("unit_tools")]) == Order(behind=(str(tmp_path / "lib"),))


def test_what_a_plugin_has_unpacked_in_this_process_is_not_sent(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = worker_plugins._Unpacked("", (str(tmp_path / "lib"),))
    monkeypatch.setattr(worker_plugins, "_unpacked", {SCRIPT_PART: unpacked})
    sys.path.insert(0, str(tmp_path / "lib"))
    assert import_order(root, []) == Order()


def test_nothing_is_sent_twice(root: Path, tmp_path: Path, client: Client) -> None:
    code = ProgramCode(client, root, print)
    code.begin()
    assert client.sent == [NO_EXTRAS]
    send_new_code(client)
    assert len(client.sent) == 1
    sys.path.append(str(tmp_path / "lib"))
    send_new_code(client)
    send_new_code(client)
    [_, extras] = client.sent
    assert [_names(archive) for archive in extras.last] == [["unit_tools.py", "unit_pack/__init__.py"]]
    assert (extras.ahead, extras.behind, extras.named) == ((), (), ())


def test_a_client_that_skjob_has_not_prepared_is_left_alone(client: Client) -> None:
    send_new_code(client)
    assert client.sent == []


def test_what_has_been_taken_off_the_path_stays(root: Path, tmp_path: Path, client: Client) -> None:
    """Many a program does so when it has imported what it wants; a function may import the rest."""
    code = ProgramCode(client, root, print)
    sys.path.insert(0, str(tmp_path / "lib"))
    _imported("unit_tools")
    code.send_new()
    del sys.path[0]
    code.send_new()
    [extras] = client.sent
    assert len(extras.ahead) == 1
    assert extras.named == ()


def test_a_module_that_was_loaded_by_its_path(root: Path, tmp_path: Path, client: Client) -> None:
    """Also one whose name another file has that an import would find."""
    code = ProgramCode(client, root, print)
    sys.path.append(str(tmp_path / "lib"))
    (tmp_path / "experiment-7.py").write_text("VALUE = 7")
    _loaded("unit_experiment", tmp_path / "experiment-7.py")
    _loaded("unit_tools", tmp_path / "experiment-7.py")
    _imported("unit_pack")
    code.send_new()
    [extras] = client.sent
    assert [(each.name, each.file, each.is_package, _names(each.archive)) for each in extras.named] == [
        ("unit_experiment", "experiment-7.py", False, ["experiment-7.py"]),
        ("unit_tools", "experiment-7.py", False, ["experiment-7.py"]),
    ]


def test_a_name_that_an_import_finds_again(root: Path, tmp_path: Path, client: Client) -> None:
    code = ProgramCode(client, root, print)
    sys.path.append(str(tmp_path / "lib"))
    (tmp_path / "experiment-7.py").write_text("VALUE = 7")
    _loaded("unit_tools", tmp_path / "experiment-7.py")
    code.send_new()
    local.clear()
    del sys.modules["unit_tools"]
    _imported("unit_tools")
    code.send_new()
    assert [[each.name for each in extras.named] for extras in client.sent] == [["unit_tools"], []]


def test_a_package_that_was_loaded_by_its_path_goes_whole(root: Path, tmp_path: Path, client: Client) -> None:
    (tmp_path / "lib" / "unit_pack" / "part.py").write_text("")
    folder = tmp_path / "lib" / "unit_pack"
    _loaded("unit_own", folder / "__init__.py", submodule_search_locations=[str(folder)])
    ProgramCode(client, root, print).send_new()
    [extras] = client.sent
    [named] = extras.named
    assert (named.name, named.is_package, _names(named.archive)) == ("unit_own", True, ["__init__.py", "part.py"])


def test_a_module_that_was_written_since_the_folder_was_sent(root: Path, client: Client) -> None:
    code = ProgramCode(client, root, print)
    (root / "unit_late.py").write_text("")
    sys.path_importer_cache.pop(str(root), None)
    _imported("unit_late")
    code.send_new()
    assert [each.name for each in client.sent[0].named] == ["unit_late"]


def test_a_zip_file_goes_as_it_is(root: Path, tmp_path: Path, client: Client) -> None:
    with zipfile.ZipFile(tmp_path / "tools.zip", "w") as archive:
        archive.writestr("unit_zipped.py", "VALUE = 1")
    sys.path.insert(0, str(tmp_path / "tools.zip"))
    _imported("unit_zipped")
    ProgramCode(client, root, print).send_new()
    [extras] = client.sent
    assert extras == Extras(ahead=((tmp_path / "tools.zip").read_bytes(),))


def test_too_much_is_told(root: Path, tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    code = ProgramCode(client, root, lines.append)
    monkeypatch.setattr("skjob.engine.transfer.modules.MAX_FILES", 1)
    sys.path.append(str(tmp_path / "lib"))
    code.send_new()
    assert lines == [f"not all modules in `{tmp_path / 'lib'}` were sent: too much, or not readable"]


class Worker:
    """What a plugin sees of a worker."""

    def __init__(self, folder: Path) -> None:
        self.local_directory = str(folder)
        self.data: dict[str, object] = {}


@pytest.fixture
def worker(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker in this process, which has nothing of the program yet."""
    monkeypatch.setattr(worker_plugins, "_unpacked", {})
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    return Worker(tmp_path / "worker")


def _moved_to(worker: Worker, extras: Extras, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine: the program's own entries and modules are not there."""
    for module in local:
        if sys.modules.get(module.__name__) is module:
            del sys.modules[module.__name__]
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" in entry])
    WorkerModules(SCRIPT_PART, archive, extras).setup(worker)


def test_a_worker_finds_all_of_it(
    root: Path, tmp_path: Path, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "unit_tools.py").write_text("WHERE = 'lib'")
    (root / "src" / "unit_tools.py").write_text("WHERE = 'src'")
    (tmp_path / "experiment-7.py").write_text("VALUE = 7")
    code = ProgramCode(client, root, print)
    sys.path.insert(0, str(root / "src"))
    sys.path.append(str(tmp_path / "lib"))
    _loaded("unit-experiment", tmp_path / "experiment-7.py")
    code.send_new()
    _moved_to(worker, client.sent[0], pack_modules(root).content, monkeypatch)
    assert import_module("unit_tools").WHERE == "src"
    assert import_module("unit-experiment").VALUE == 7
    assert import_module("unit_pack").__file__.startswith(worker.local_directory)  # type: ignore[union-attr]
    place = [("worker" in entry) for entry in sys.path]
    assert place == [*sorted(place[:-1], reverse=True), True]  # before and behind what is installed


def test_a_module_in_a_package_that_is_nowhere_else(
    root: Path, tmp_path: Path, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "unit_space" / "deep").mkdir(parents=True)
    (tmp_path / "lib" / "unit_space" / "deep" / "part.py").write_text("VALUE = 7")
    code = ProgramCode(client, root, print)
    sys.path.append(str(tmp_path / "lib"))
    _imported("unit_space.deep.part")
    sys.path.pop()
    code.send_new()
    for name in ("unit_space", "unit_space.deep"):
        del sys.modules[name]
    _moved_to(worker, client.sent[0], pack_modules(root).content, monkeypatch)
    assert import_module("unit_space.deep.part").VALUE == 7


def test_a_name_that_a_library_has_too_means_what_it_means_in_the_program(
    root: Path, tmp_path: Path, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiment-7.py").write_text("VALUE = 7")
    code = ProgramCode(client, root, print)
    _loaded("unit_library", tmp_path / "experiment-7.py")
    code.send_new()
    monkeypatch.setitem(sys.modules, "unit_library", ModuleType("unit_library"))  # imported on the worker before
    _moved_to(worker, client.sent[0], pack_modules(root).content, monkeypatch)
    assert import_module("unit_library").VALUE == 7


def test_where_the_program_runs_in_the_workers_process_its_modules_stay(
    root: Path, tmp_path: Path, client: Client, worker: Worker
) -> None:
    (tmp_path / "experiment-7.py").write_text("VALUE = 7")
    code = ProgramCode(client, root, print)
    module = _loaded("unit_experiment", tmp_path / "experiment-7.py")
    code.send_new()
    WorkerModules(SCRIPT_PART, pack_modules(root).content, client.sent[0]).setup(worker)
    assert sys.modules["unit_experiment"] is module


def test_another_file_of_the_same_name_takes_the_place_of_the_first(
    root: Path, tmp_path: Path, client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = ProgramCode(client, root, print)
    archive = pack_modules(root).content
    for value in (7, 8):
        (tmp_path / f"experiment-{value}.py").write_text(f"VALUE = {value}")
        local.clear()
        _loaded("unit_experiment", tmp_path / f"experiment-{value}.py")
        code.send_new()
        _moved_to(worker, client.sent[-1], archive, monkeypatch)
        assert value == import_module("unit_experiment").VALUE
    kept = sys.modules["unit_experiment"]
    WorkerModules(SCRIPT_PART, archive, client.sent[-1]).setup(worker)
    assert import_module("unit_experiment") is kept
    WorkerModules(SCRIPT_PART, archive).setup(worker)  # the next run has no such name
    with pytest.raises(ModuleNotFoundError):
        import_module("unit_experiment")
