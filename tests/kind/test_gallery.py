"""Ten of scikit-learn's own examples print the same on a real Kubernetes as with plain Python, on one warm cluster.

tests/integration/test_gallery.py runs all of them on this machine. The program's Python has the plotting libraries;
pods need nothing but the image.
"""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from gallery import GALLERY, compared
from kubernetes import client
from support.namespaces import new_namespace
from support.runs import DEADLINE, Runs
from support.user_env import run_uv

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WARM_CLUSTER = "gallery"
NAMES = [
    "calibration/plot_calibration_curve.py",
    "compose/plot_feature_union.py",
    "ensemble/plot_forest_importances.py",
    "ensemble/plot_voting_regressor.py",
    "feature_selection/plot_rfe_with_cross_validation.py",
    "inspection/plot_permutation_importance_multicollinear.py",
    "model_selection/plot_cv_predict.py",
    "model_selection/plot_multi_metric_evaluation.py",
    "model_selection/plot_nested_cross_validation_iris.py",
    "neighbors/plot_caching_nearest_neighbors.py",
]


@pytest.fixture(scope="module")
def runs(
    kind_api: client.ApiClient, shared_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """Runs on a warm cluster, with a Python that has the tests' packages and the plotting libraries."""
    folder = tmp_path_factory.mktemp("gallery")
    run_uv("venv", "--quiet", str(folder / "venv"))
    python = str(folder / "venv" / "bin" / "python")
    plotting = ["--no-deps", "--requirement", str(ROOT / "requirements-gallery.lock")]
    run_uv("pip", "install", "--quiet", "--python", python, *plotting)
    [site] = folder.glob("venv/lib/python*/site-packages")
    (site / "tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    with new_namespace(kind_api) as namespace:
        runs = Runs(folder, shared_env | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}, namespace, python)
        up = runs.skjob("up", WARM_CLUSTER, "--workers", "2")
        try:
            assert up.returncode == 0, up.stderr
            yield runs
        finally:
            down = runs.skjob("down", WARM_CLUSTER)
        assert down.returncode == 0, down.stderr


@pytest.mark.parametrize("name", NAMES)
def test_example_prints_the_same_in_pods(runs: Runs, name: str) -> None:
    path = GALLERY / "examples" / name
    if not path.is_file():
        pytest.skip("`make test-all` and `make test-gallery` fetch the examples")
    ended = runs.run(path.read_text(), "--cluster", WARM_CLUSTER)
    plain = subprocess.run(
        [runs.python, "train.py"], cwd=runs.folder, env=runs.environment, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip
    assert plain.returncode == 0, plain.stderr
    assert ended.returncode == 0, ended.stderr
    assert compared(ended.stdout) == compared(plain.stdout)
