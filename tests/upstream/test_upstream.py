"""joblib's own tests of its Dask backend, and scikit-learn's of searches, validation and forests, with skjob's backend.

Each suite runs as it is installed, in a pytest of its own (`upstream_plugin.py`). What may fail is listed, with its
cause, in `differences.toml`: anything else that fails is a failure here, and so is a listed test that passes. With
`-m "not slow"`, as by `make test`, only those tests of a suite run that `part.toml` has. The table at the end comes
from `conftest.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MOST_SECONDS = 2400  # for one suite
MOST_FAILING = 0.02

SUITES = (
    "joblib.test.test_dask",
    "sklearn.model_selection.tests.test_search",
    "sklearn.model_selection.tests.test_validation",
    "sklearn.ensemble.tests.test_forest",
)
WITH_MEMORY = ("sklearn.model_selection.tests.test_search", "sklearn.model_selection.tests.test_validation")

pytestmark = pytest.mark.timeout(MOST_SECONDS + 60)


def _run(suite: str, folder: Path, *options: str) -> dict[str, Any]:
    """The report of `upstream_plugin.py`. The suite's own settings hold, not those of skjob's tests."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "--pyargs", suite, "-c", str(folder / "pytest.ini")]
    command += ["-p", "upstream_plugin", "--upstream-report", str(report), *options]
    command += ["-p", "distributed.utils_test", "-p", "no:cacheprovider", "--timeout", "240", "--tb", "short", "-rfEx"]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), environment.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment["DASK_DISTRIBUTED__WORKER__PRELOAD"] = "upstream_plugin"
    # Else each of a hundred workers imports Dask and scikit-learn anew.
    environment["DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"] = "forkserver"
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment["SCIPY_ARRAY_API"] = "1"  # or scikit-learn skips its tests of it with NumPy
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    return dict(json.loads(report.read_text()))


@pytest.mark.parametrize("suite", SUITES)
def test_suite(
    suite: str, tmp_path: Path, keep_report: Callable[[str, dict[str, Any]], None], upstream_options: list[str]
) -> None:
    report = _run(suite, tmp_path, *upstream_options)
    keep_report(suite, report)
    assert report["passed"] > report["xfailed"]
    assert report["tests_with_batches"] > report["passed"] / 2, "they must go through the backend"


@pytest.mark.slow  # they tell why something is listed
@pytest.mark.parametrize("suite", WITH_MEMORY)
def test_what_looks_at_the_callers_memory_fails_with_any_processes(suite: str, tmp_path: Path) -> None:
    """Listed as `memory`, and therefore not counted as skjob's failures: joblib's own processes fail in the same."""
    report = _run(suite, tmp_path, "--with-loky")
    assert report["xfailed"]
    assert not report["passed"]


@pytest.mark.slow
def test_few_fail(upstream_reports: dict[str, dict[str, Any]]) -> None:
    if set(upstream_reports) != set(SUITES):
        pytest.skip("not all suites have run, or not to their end")
    failed = sum(report["design"] + report["chance"] for report in upstream_reports.values())
    ran = failed + sum(report["passed"] + report["memory"] for report in upstream_reports.values())
    assert failed <= MOST_FAILING * ran
