"""What can be known of a script before anything starts."""

import sys
from pathlib import Path

import pytest

from skjob.errors import ConfigError
from skjob.run.program.check import check_script

NOT_UTF_8 = "`{script}:2:11`" if sys.version_info < (3, 12) else "`{script}:2:8`"
"""The place that Python tells for a text that is not in UTF-8."""


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"print('hello')",
        b"# -*- coding: latin-1 -*-\nname = '\xe9'\n",
        b"\xef\xbb\xbfprint('with a byte order mark')",
        b"raise SystemExit(3)",
        b"import no_such_module",
        b"print('other line ends')\r\nif True:\r\n    pass\r\n",
    ],
)
def test_a_script_that_python_can_read(tmp_path: Path, source: bytes) -> None:
    (tmp_path / "train.py").write_bytes(source)
    check_script(tmp_path / "train.py")


def test_checking_does_not_run_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    check_script(tmp_path / "train.py")
    assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


@pytest.mark.parametrize(
    ("source", "place", "said"),
    [
        (b"x = 1\nfor x in y\n    pass\n", ":2:11", "expected ':'"),
        (b"def f(:\n", ":1:7", "invalid syntax"),
        (b"print 'hello'\n", ":1:1", "Missing parentheses in call to 'print'. Did you mean print(...)?"),
        (b"if True:\npass\n", ":2:1", "expected an indented block after 'if' statement on line 1"),
        (b"x = (\n", ":1:5", "'(' was never closed"),
        (b"return 3\n", ":1:1", "'return' outside function"),
        (b"from __future__ import braces\n", ":1:1", "not a chance"),
    ],
)
def test_a_syntax_error_has_its_place(tmp_path: Path, source: bytes, place: str, said: str) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(source)
    with pytest.raises(ConfigError) as caught:
        check_script(script)
    assert caught.value.message == f"`{script}{place}` is not valid Python: {said}"
    assert caught.value.hint == "fix the script; nothing was started"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"x = 1\nname = '\xe9'\n", f"{NOT_UTF_8} is not valid Python: (unicode error) 'utf-8' codec can't decode"),
        pytest.param(
            b"# coding: no-such\nx = 1\n",
            "`{script}` is not valid Python: unknown encoding: no-such",
        ),
        pytest.param(
            b"x = 1\x00\n",
            "`{script}` is not valid Python: source code string cannot contain null bytes",
        ),
    ],
)
def test_a_script_in_another_encoding(tmp_path: Path, source: bytes, message: str) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(source)
    with pytest.raises(ConfigError) as caught:
        check_script(script)
    assert caught.value.message.startswith(message.format(script=script))


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_script(tmp_path / "trian.py")
    assert caught.value.message == f"there is no script `{tmp_path / 'trian.py'}`"
    assert caught.value.hint == "check the path; it is relative to the working directory"


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_script(tmp_path)
    assert (caught.value.message, caught.value.hint) == (f"`{tmp_path}` is a folder", "name the script to run in it")


def test_warnings_of_the_compiler_are_pythons_own_affair(tmp_path: Path) -> None:
    """Here warnings are errors; the script's own run will show them."""
    (tmp_path / "train.py").write_text("pattern = '\\d'\nx = 1\nif x is 1: pass\n")
    check_script(tmp_path / "train.py")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (
            "nb.ipynb",
            "`{file}` is a notebook",
            "`jupyter nbconvert --to script {file}` makes a script of it, or use `skjob.cluster()` in it",
        ),
        ("job.json", "`{file}` is not a script", "a job file ends in `.yaml`"),
        ("job.toml", "`{file}` is not a script", "a job file ends in `.yaml`"),
    ],
)
def test_what_python_would_take_and_is_no_script(tmp_path: Path, name: str, message: str, hint: str) -> None:
    file = tmp_path / name
    file.write_text('{"cells": []}\n')
    with pytest.raises(ConfigError) as caught:
        check_script(file)
    assert (caught.value.message, caught.value.hint) == (message.format(file=file), hint.format(file=file))
