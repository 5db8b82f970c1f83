"""What may be imported before a script runs, without the script noticing."""

from pathlib import Path

import pytest

from skjob.run.program.leading_imports import leading_imports


def leading(folder: Path, source: str) -> list[str]:
    (folder / "train.py").write_text(source)
    return list(leading_imports(folder / "train.py"))


def test_imports_at_the_head_of_a_script_are_taken_in_its_order(tmp_path: Path) -> None:
    source = '''"""A docstring."""
from __future__ import annotations
import json, sys
import numpy as np
from sklearn.svm import SVC
import sklearn.svm, scipy.stats
from joblib import Parallel
x = 1
import pandas
'''
    assert leading(tmp_path, source) == ["numpy", "sklearn.svm", "scipy.stats"]


@pytest.mark.parametrize(
    "before",
    [
        "import os\nos.environ['OMP_NUM_THREADS'] = '4'",
        "import settings",
        "from . import settings",
        "if True: pass",
        "import sklearnex",
        "raise SystemExit",
    ],
)
def test_nothing_is_taken_after_code_that_may_prepare_an_import(tmp_path: Path, before: str) -> None:
    assert leading(tmp_path, f"{before}\nimport sklearn.svm\n") == []


@pytest.mark.parametrize("name", ["sklearn.py", "sklearn/__init__.py"])
def test_nothing_is_taken_where_a_file_beside_the_script_has_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert leading(tmp_path, "import numpy\nimport sklearn.svm\n") == []


@pytest.mark.parametrize("source", ["import sklearn\nx = (", "import sklearn\n\0"])
def test_a_script_that_python_cannot_read_has_none(tmp_path: Path, source: str) -> None:
    assert leading(tmp_path, source) == []
    assert list(leading_imports(tmp_path / "missing.py")) == []
