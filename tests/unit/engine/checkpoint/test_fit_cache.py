"""Which stored fits are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skjob.engine.checkpoint.fit_cache import FitCache
from skjob.engine.checkpoint.fit_key import FitIdentity

FIT = FitIdentity("data", "fit", True)
CALL: Any = (abs, (1,), {})


def _cache(folder: Path, run: str) -> Any:
    return FitCache(str(folder), run)


def test_a_fit_that_has_read_a_file_is_found_while_the_file_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "scale.txt").write_text("3")
    found = (tmp_path / "scale.txt").stat()
    read = ((str(tmp_path / "scale.txt"), found.st_size, found.st_mtime_ns),)
    _cache(tmp_path / "fits", "one").begin_call(None, str).store(FIT, {"test_scores": 1.0}, 1.0, (), read)
    assert _cache(tmp_path / "fits", "two").begin_call(None, str).find(FIT, CALL) == {"test_scores": 1.0}
    (tmp_path / "scale.txt").write_text("40")
    assert _cache(tmp_path / "fits", "two").begin_call(None, str).find(FIT, CALL) is None
    (tmp_path / "scale.txt").unlink()
    assert _cache(tmp_path / "fits", "two").begin_call(None, str).find(FIT, CALL) is None


def test_a_fit_is_not_stored_if_a_file_has_changed_since_it_was_read(tmp_path: Path) -> None:
    """A file that only workers have is not looked at."""
    lines: list[str] = []
    (tmp_path / "scale.txt").write_text("3")
    found = (tmp_path / "scale.txt").stat()
    changed = str(tmp_path / "scale.txt"), found.st_size, found.st_mtime_ns - 1
    gone = str(tmp_path / "gone.txt"), 1, 1
    for read, result in (((gone, changed), None), ((gone,), {"test_scores": 1.0})):
        cache = FitCache(str(tmp_path / "fits"), "one", notify=lines.append)
        cache.begin_call(None, str).store(FIT, {"test_scores": 1.0}, 1.0, (), read)
        assert _cache(tmp_path / "fits", "two").begin_call(None, str).find(FIT, CALL) == result
    assert lines == [f"fits are not stored for later runs: `{changed[0]}` here is not what they read"]


@pytest.mark.parametrize(("run", "found"), [("one", None), ("two", {"test_scores": 1.0})])
def test_a_fit_that_printed_is_done_again_in_its_own_run(tmp_path: Path, run: str, found: Any) -> None:
    """A later run reports that it reuses fits."""
    first = _cache(tmp_path, "one")
    first.begin_call(None, str).store(FIT, {"test_scores": 1.0}, 1.0, (), shown=True)
    cache = first if run == "one" else _cache(tmp_path, run)
    assert cache.begin_call(None, str).find(FIT, CALL) == found
