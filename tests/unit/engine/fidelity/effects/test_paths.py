"""Which files belong to Python and the system, and which to a program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy
import pytest

from skjob.engine.fidelity.effects.paths import is_cache_or_device, is_of_environment


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/share/zoneinfo/UTC", True),
        ("/usr/lib/os-release", True),
        ("/lib64/ld.so.cache", True),
        (f"{sys.prefix}/share/data.json", True),
        (str(Path(numpy.__file__).with_name("data.txt")), True),
        (str(Path(os.__file__).with_name("LICENSE.txt")), True),
        ("/usr/src/app/data.csv", False),
        ("/usr/local/app/data.csv", False),
        (f"{sys.prefix}/work/data.csv", False),
        ("/data/features.zip", False),
    ],
)
def test_files_of_the_environment(path: str, expected: bool) -> None:
    assert is_of_environment(path) == expected


def test_an_archive_that_code_is_imported_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, "/data/features.zip"])
    assert is_of_environment("/data/features.zip")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/dev/null", True), ("/dev/pts/0", True), ("/proc/self/stat", True), ("/dev/shm/data.npy", False)],
)
def test_files_in_memory_are_no_devices(path: str, expected: bool) -> None:
    assert is_cache_or_device(path) == expected
