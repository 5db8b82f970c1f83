"""The store of finished fits: what was kept comes back exactly, and what was not is never found."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from clocks import DEADLINE

from skjob.engine.checkpoint import store as checkpoint
from skjob.engine.checkpoint.fit_key import KEY_VERSION, FitIdentity
from skjob.engine.checkpoint.store import FitStore
from skjob.errors import ConfigError

RESULT = {
    "fit_error": None,
    "test_scores": 0.1 + 0.2,
    "n_test_samples": 20,
    "fit_time": 0.01234567890123456,
    "score_time": 1e-5,
}
VERSIONS = {"scikit-learn": "1.9.1"}


def identity(number: int = 0, group: int = 0) -> FitIdentity:
    return FitIdentity(f"{group:040x}", f"{number:040x}", True)


def entry_of(folder: Path, of: FitIdentity) -> Path:
    return folder / of.data / f"{of.fit}.json"


@pytest.fixture
def memory() -> Iterator[str]:
    address = f"memory://{uuid4().hex}/fits"
    yield address
    forget_memory()


def forget_memory() -> None:
    """Its own `rm` looks at every file for every file."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]


@pytest.fixture(params=["folder", "file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return str(request.getfixturevalue("memory"))
    return f"file://{tmp_path}/fits" if request.param == "file" else str(tmp_path / "fits")


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray):
        alike = (one.dtype, one.shape, one.flags.f_contiguous) == (other.dtype, other.shape, other.flags.f_contiguous)
        return alike and one.tobytes() == other.tobytes()
    if isinstance(one, float | np.floating):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return bool(one == other)


@pytest.mark.parametrize(
    "result",
    [
        RESULT,
        {
            **RESULT,
            "test_scores": {"accuracy": 0.5, "f1": np.float64(1 / 3)},
            "train_scores": {"accuracy": 1, "f1": 0.0},
        },
        {**RESULT, "test_scores": math.nan, "train_scores": math.inf},
        {**RESULT, "test_scores": {"a": -math.inf, "b": np.float64("nan"), "c": -0.0, "d": 5e-324, "e": 1.7e308}},
        {**RESULT, "test_scores": np.float32(0.1), "n_test_samples": np.int64(7)},
        {**RESULT, "test_scores": {"a": np.float16(0.1), "b": True, "c": np.bool_(False), "d": np.uint8(3)}},
        {**RESULT, "test_scores": {"größe\ud800": 2**70}},
        np.array([[0.1, math.nan], [0.3, 0.4], [0.5, 0.6]]).T,
        np.array([[1, 2], [3, 4]]),
    ],
    ids=["plain", "several", "nan", "extremes", "numpy", "kinds", "names", "curve", "integers"],
)
def test_a_result_comes_back_as_it_was(address: str, result: Any) -> None:
    assert FitStore(address, "run-1").save(identity(), result, 1.5, VERSIONS)
    store = FitStore(address, "run-2")
    found = store.find(identity())
    assert found is not None
    assert same(found.result, result)
    assert (found.run, found.seconds) == ("run-1", 1.5)
    assert store.problems == ()


def test_what_the_call_knows_itself_is_left_out(address: str) -> None:
    store = FitStore(address, "run")
    assert store.save(identity(), {**RESULT, "parameters": {"C": object()}}, 1, VERSIONS)
    found = store.find(identity())
    assert found
    assert same(found.result, RESULT)


@pytest.mark.parametrize(
    "result",
    [
        {**RESULT, "fit_error": "Traceback …"},
        {**RESULT, "estimator": object()},
        {**RESULT, "test_scores": object()},
        {**RESULT, "test_scores": 1j},
        {**RESULT, "test_scores": {1: 0.5}},
        {**RESULT, "test_scores": np.longdouble(1)},
        np.array([object()]),
        [1, 2],
        None,
    ],
    ids=["failed", "estimator", "object", "complex", "name", "longdouble", "objects", "list", "none"],
)
def test_what_is_not_plain_or_failed_is_not_kept(address: str, result: Any) -> None:
    store = FitStore(address, "run")
    assert not store.save(identity(), result, 1, VERSIONS)
    assert store.find(identity()) is None
    assert store.problems == ()


def test_another_fit_or_other_data_is_a_miss(address: str) -> None:
    store = FitStore(address, "run")
    store.save(identity(1, 1), RESULT, 1, VERSIONS)
    assert store.find(identity(1, 1))
    assert store.find(identity(1, 2)) is None
    assert store.find(identity(2, 1)) is None
    assert store.problems == ()


def test_what_a_run_keeps_it_finds_itself(address: str) -> None:
    store = FitStore(address, "run")
    assert store.find(identity()) is None
    store.save(identity(), RESULT, 1, VERSIONS)
    assert store.find(identity())


def test_an_entry_is_plain_json_that_says_what_it_is(tmp_path: Path) -> None:
    FitStore(str(tmp_path), "run-7").save(identity(), RESULT, 1, VERSIONS)
    document = json.loads(entry_of(tmp_path, identity()).read_bytes())
    assert document["format"] == checkpoint.FORMAT
    assert document["entry"].items() >= {"run": "run-7", "versions": VERSIONS, "fit": identity().fit}.items()


def test_fits_of_an_earlier_release_are_told_of_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not FitStore(address, "run").has_older()
    assert FitStore(address, "run").save(identity(), RESULT, 0.1, VERSIONS)
    assert not FitStore(address, "run").has_older()
    monkeypatch.setattr(checkpoint, "KEY_VERSION", KEY_VERSION + 1)
    assert FitStore(address, "run").has_older()
    assert not FitStore(address, "run").has_older()


def test_a_local_store_keeps_itself_out_of_git(tmp_path: Path) -> None:
    FitStore(str(tmp_path / "fits"), "run")
    assert (tmp_path / "fits" / ".gitignore").read_text() == "*\n"
    assert [path.name for path in (tmp_path / "fits").iterdir()] == [".gitignore"]


# Damage


def test_no_flipped_bit_gives_another_result(tmp_path: Path) -> None:
    FitStore(str(tmp_path), "run").save(identity(), RESULT, 1.5, VERSIONS)
    content = entry_of(tmp_path, identity()).read_bytes()
    misses = 0
    for position in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        try:
            found = checkpoint.decode(bytes(flipped), identity())
        except (checkpoint.DamagedEntry, checkpoint.UnknownFormat):
            misses += 1
        else:
            assert same(found.result, RESULT), f"bit {position} was believed"
            assert (found.run, found.seconds) == ("run", 1.5)
    assert misses > len(content) * 7


def test_a_torn_entry_is_a_miss_at_any_length(tmp_path: Path) -> None:
    store = FitStore(str(tmp_path), "run")
    store.save(identity(), RESULT, 1, VERSIONS)
    path = entry_of(tmp_path, identity())
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert store.find(identity()) is None
    assert store.damaged == len(content)
    path.write_bytes(content)
    assert store.find(identity())


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 500, b"\xff\xfe", b"[]", b"null", b"1", b'{"format": 1}', b'{"format": "1"}', b"[" * 100_000,
     b'{"format": 1, "sha256": "", "entry": {"fit": ' + b"1" * 5000 + b"}}"],
)  # fmt: skip
def test_rubbish_is_a_miss_and_told_with_its_path(address: str, content: bytes) -> None:
    FitStore(address, "run").save(identity(), RESULT, 1, VERSIONS)
    files, root = fsspec.url_to_fs(address)
    path = f"{root}/{identity().data}/{identity().fit}.json"
    files.pipe_file(path, content)
    store = FitStore(address, "run")
    assert store.find(identity()) is None
    assert store.damaged == 1
    assert len(store.problems) == 1
    assert f"{identity().data}/{identity().fit}.json` is damaged" in store.problems[0]
    assert store.save(identity(), RESULT, 1, VERSIONS), "a damaged entry is replaced"
    assert store.find(identity())


def test_an_entry_under_the_name_of_another_is_a_miss(tmp_path: Path) -> None:
    store = FitStore(str(tmp_path), "run")
    store.save(identity(1), RESULT, 1, VERSIONS)
    entry_of(tmp_path, identity(1)).rename(entry_of(tmp_path, identity(2)))
    assert store.find(identity(2)) is None
    assert "it belongs to another fit" in store.problems[0]


def rewritten(path: Path, **changes: Any) -> None:
    """Change an entry as somebody would who can make a checksum."""
    document = json.loads(path.read_bytes())
    document["entry"].update(changes)
    document["sha256"] = checkpoint._checksum(document["entry"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "result",
    [
        None,
        {"test_scores": "0.5"},
        {"test_scores": ["float", 1]},
        {"test_scores": ["int", True]},
        {"test_scores": ["int", 0.5]},
        {"test_scores": ["float", "infinity"]},
        {"test_scores": ["numpy.object", 1]},
        {"test_scores": ["numpy.uint8", 300]},
        {"test_scores": ["builtins.eval", 1]},
        {"test_scores": {"a": ["float"]}},
        {"fit_time": ["str", "1"]},
        {"fit_error": "no"},
        {"estimator": ["float", 0.5]},
        {"array": {"dtype": "|O", "shape": [1], "order": "C", "base64": "AAAAAAAAAAA="}},
        {"array": {"dtype": "<f8", "shape": [2], "order": "C", "base64": "AAAAAAAAAAA="}},
        {"array": {"dtype": "<f8"}},
        {"array": 1},
    ],
)
def test_a_result_of_another_form_is_a_miss_in_spite_of_its_checksum(tmp_path: Path, result: Any) -> None:
    store = FitStore(str(tmp_path), "run")
    store.save(identity(), RESULT, 1, VERSIONS)
    rewritten(entry_of(tmp_path, identity()), result=result)
    assert store.find(identity()) is None
    assert store.damaged == 1


def test_an_entry_of_another_version_is_a_miss_and_no_damage(tmp_path: Path) -> None:
    store = FitStore(str(tmp_path), "run")
    store.save(identity(), RESULT, 1, VERSIONS)
    path = entry_of(tmp_path, identity())
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert store.find(identity()) is None
    assert store.problems == ()


# Several clients, and places that fail

WRITER = """
import sys
from skjob.engine.checkpoint.store import FitStore
from skjob.engine.checkpoint.fit_key import FitIdentity
store = FitStore(sys.argv[1], sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for again in range(150):
    kept = FitIdentity("0" * 40, f"{again % 3:040x}", True)
    assert store.save(kept, {"test_scores": {"a" * (50 if sys.argv[2] == "one" else 5000): 0.5}}, 1.0, {})
    assert store.find(kept)
assert not store.problems, store.problems
"""


def test_two_clients_that_write_the_same_entries_at_once(tmp_path: Path) -> None:
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as running:
        clients: list[subprocess.Popen[str]] = [
            running.enter_context(subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], **pipes))
            for name in ("one", "two")
        ]
        assert [client.stdout.readline() for client in clients if client.stdout] == ["ready\n"] * 2
        for client in clients:
            print(file=client.stdin, flush=True)
        store = FitStore(str(tmp_path), "reader")
        while any(client.poll() is None for client in clients):
            for number in range(3):
                store.find(identity(number))
        for client in clients:
            _, output = client.communicate(timeout=DEADLINE)
            assert client.returncode == 0, output
    assert store.problems == ()
    assert sorted(path.name for path in (tmp_path / identity().data).iterdir()) == [
        f"{number:040x}.json" for number in range(3)
    ]


def test_a_full_disk_is_told_once_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = FitStore(str(tmp_path), "run")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert not store.save(identity(1), RESULT, 1, VERSIONS)
        assert not store.save(identity(2), RESULT, 1, VERSIONS)
    assert store.problems == ("cannot store finished fits: No space left on device",)
    assert list((tmp_path / identity().data).iterdir()) == []
    assert store.save(identity(1), RESULT, 1, VERSIONS)


def test_what_a_killed_client_left_unfinished_goes(tmp_path: Path) -> None:
    folder = tmp_path / identity().data
    folder.mkdir()
    old, new = folder / ".old.tmp", folder / ".new.tmp"
    for file in (old, new):
        file.write_bytes(b"unfinished")
    os.utime(old, (0, 0))
    FitStore(str(tmp_path), "run").save(identity(), RESULT, 1, VERSIONS)
    assert not old.exists()
    assert new.exists(), "another client may be writing it"


def test_a_folder_that_turns_into_a_file_ends_nothing(tmp_path: Path) -> None:
    store = FitStore(str(tmp_path / "fits"), "run")
    (tmp_path / "fits" / ".gitignore").unlink()
    (tmp_path / "fits").rmdir()
    (tmp_path / "fits").write_text("")
    assert store.find(identity()) is None
    assert not store.save(identity(), RESULT, 1, VERSIONS)
    assert store.problems == (
        "cannot read stored fits: Not a directory",
        "cannot store finished fits: Not a directory",
    )


@pytest.mark.parametrize("make", [lambda path: str(path), lambda path: f"file://{path}"], ids=["path", "file"])
def test_a_folder_that_cannot_be_made_is_an_error_at_once(tmp_path: Path, make: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot store finished fits in .*: Not a directory") as caught:
        FitStore(make(tmp_path / "file" / "fits"), "run")
    assert caught.value.hint


def test_a_folder_of_a_user_who_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="there is no user `nosuchuser`"):
        FitStore("~nosuchuser/fits", "run")


def test_a_folder_without_permission_is_an_error_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "fits"
    folder.mkdir(mode=0o500)
    nobody = 65534 if os.geteuid() == 0 else None  # permissions do not hold root back
    if nobody is not None:
        for above in (folder, *folder.parents):
            if above.owner() == folder.owner() and above.stat().st_mode & 0o055 != 0o055:
                above.chmod(0o755)
        os.seteuid(nobody)
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            FitStore(str(folder), "run")
    finally:
        if nobody is not None:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("nowhere://bucket/fits", "fsspec does not know the address", "s3://bucket/fits"),
        ("gs://bucket/fits", "needs a package that is not installed", "pip install gcsfs"),
        (
            "ftp://ann:secret@127.0.0.1:9/fits",
            r"cannot store finished fits in `ftp://ann:\*\*\*\*@127.0.0.1:9/fits`",
            "write to",
        ),
    ],
)
def test_an_address_of_an_unknown_kind_is_an_error_at_once(address: str, message: str, hint: str) -> None:
    if address.startswith("gs") and find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(ConfigError, match=message) as caught:
        FitStore(address, "run")
    assert hint in caught.value.hint


def test_a_store_without_atomic_writes_moves_a_finished_file(tmp_path: Path) -> None:
    """fsspec's `dir` puts a folder in front of another filesystem, here this machine's own."""
    address = f"dir://{tmp_path}/fits::file:///"
    store = FitStore(address, "run")
    assert store.save(identity(), RESULT, 1, VERSIONS)
    assert [path.name for path in (tmp_path / "fits" / identity().data).iterdir()] == [f"{identity().fit}.json"]
    found = FitStore(address, "again").find(identity())
    assert found
    assert same(found.result, RESULT)


def test_a_remote_group_is_read_once(memory: str) -> None:
    FitStore(memory, "run").save(identity(1), RESULT, 1, VERSIONS)
    store = FitStore(memory, "run")
    assert store.find(identity(1))
    forget_memory()
    assert store.find(identity(1)), "answered from memory"
    assert store.find(identity(2)) is None
    store.save(identity(2), RESULT, 1, VERSIONS)
    assert store.find(identity(2))


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_thousands_of_fits(kind: str, tmp_path: Path, memory: str) -> None:
    address = memory if kind == "memory" else str(tmp_path)
    store = FitStore(address, "run")
    assert all(
        store.save(identity(number), {**RESULT, "n_test_samples": number}, 1, VERSIONS) for number in range(2000)
    )
    again = FitStore(address, "again")
    found = [again.find(identity(number)) for number in range(2000)]
    assert all(each and each.result["n_test_samples"] == number for number, each in enumerate(found))
    assert again.problems == ()
