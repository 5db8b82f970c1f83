"""scikit-learn's own examples print the same with skjob as with plain Python.

`make test-gallery` fetches them in the locked version, outside of the repository, and runs all; `make test-all` runs
the part that `IN_TEST_ALL` names. All share one warm cluster. Examples that need a download are left out; examples that
fail in plain Python or take longer than `MAX_SECONDS` are skipped with the reason. Times are removed from the output,
and lines of progress are compared in any order; figures are not compared.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import NoReturn

import pytest
from gallery import ALL, GALLERY, compared
from local_runs import LocalRuns

MAX_SECONDS = 20.0
"""Time limit for plain Python."""

NEEDS_A_DOWNLOAD = re.compile(r"\b(fetch_\w+|load_sample_images?|plotly|skimage|polars|seaborn|urlretrieve|pooch)\b")

DIFFERENCES: dict[str, str] = {}
"""Examples with different output, with the cause."""

CHOOSES_BY_TIME = "model_selection/plot_grid_search_digits.py"
"""Prints `mean_score_time` and chooses the fastest of several equal models, so that runs of plain Python differ."""

IN_TEST_ALL = {
    "calibration/plot_calibration_curve.py",
    "compose/plot_compare_reduction.py",
    "compose/plot_feature_union.py",
    "ensemble/plot_bias_variance.py",
    "ensemble/plot_forest_importances.py",
    "ensemble/plot_voting_decision_regions.py",
    "ensemble/plot_voting_regressor.py",
    "feature_selection/plot_rfe_with_cross_validation.py",
    "feature_selection/plot_select_from_model_diabetes.py",
    "inspection/plot_permutation_importance_multicollinear.py",
    "linear_model/plot_lasso_lars_ic.py",
    "linear_model/plot_lasso_model_selection.py",
    "model_selection/plot_cv_predict.py",
    "model_selection/plot_multi_metric_evaluation.py",
    "model_selection/plot_nested_cross_validation_iris.py",
    "model_selection/plot_permutation_tests_for_classification.py",
    "model_selection/plot_roc_crossval.py",
    "model_selection/plot_successive_halving_iterations.py",
    "neighbors/plot_caching_nearest_neighbors.py",
    "svm/plot_svm_scale_c.py",
}


def _examples() -> list[str]:
    folder = GALLERY / "examples"
    if ALL not in os.environ:
        return sorted(IN_TEST_ALL)
    paths = [path for path in sorted(folder.rglob("*.py")) if not NEEDS_A_DOWNLOAD.search(path.read_text())]
    names = [str(path.relative_to(folder)) for path in paths]
    return [name for name in names if name != CHOOSES_BY_TIME]


@pytest.mark.slow
@pytest.mark.parametrize("name", _examples())
def test_example_prints_the_same(name: str, local_runs: LocalRuns) -> None:
    path = GALLERY / "examples" / name
    if not path.is_file():
        pytest.skip("`make test-all` and `make test-gallery` fetch the examples")
    folders = [str(GALLERY / "packages"), local_runs.environment.get("PYTHONPATH", "")]
    plotting = {"MPLBACKEND": "Agg", "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    local_runs.environment |= {**plotting, "OMP_NUM_THREADS": "1"}
    program = path.read_text()
    began = time.monotonic()
    try:
        plain = local_runs.python(program)
    except subprocess.TimeoutExpired:
        _skip(name, "plain Python does not end")
    if plain.returncode:
        _skip(name, f"plain Python fails: {plain.stderr.strip().splitlines()[-1]}")
    if time.monotonic() - began > MAX_SECONDS and name not in IN_TEST_ALL:
        _skip(name, f"plain Python takes more than {MAX_SECONDS:.0f} s")
    ended = local_runs.run(program)
    assert ended.returncode == 0, ended.stderr
    same = compared(ended.stdout) == compared(plain.stdout)
    assert same is (name not in DIFFERENCES), f"{plain.stdout}\n--- under skjob:\n{ended.stdout}"


def _skip(name: str, why: str) -> NoReturn:
    if name in IN_TEST_ALL:
        pytest.fail(why)
    pytest.skip(why)
