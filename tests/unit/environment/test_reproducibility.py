"""Test what a run's numbers depend on, and what its record says about them."""

import os
from dataclasses import replace

import numpy
import pytest

from skjob.environment.reproducibility import CLOSE, EXACT, NumericProfile, compare, local_profile

HERE = NumericProfile("a processor", 1, {"python": "3.11", "numpy": "2.4.0"})


def test_on_the_same_ground_they_are_the_same() -> None:
    assert compare(HERE, HERE) == {"same_as_local": EXACT, "because": [], "processor": "a processor"}


@pytest.mark.parametrize(
    ("there", "because"),
    [
        (replace(HERE, processor="another"), "processor: a processor here, another there"),
        (replace(HERE, inner_threads=4), "inner threads: 1 here, 4 there"),
        (replace(HERE, versions={"python": "3.11", "numpy": "2.5.0"}), "numpy: 2.4.0 here, 2.5.0 there"),
        (replace(HERE, versions={"python": "3.11"}), "numpy: 2.4.0 here, none there"),
    ],
)
def test_elsewhere_they_are_close(there: NumericProfile, because: str) -> None:
    told = compare(HERE, there)
    assert (told["same_as_local"], told["because"]) == (CLOSE, [because])


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("", os.cpu_count())])
def test_the_ground_of_a_process(said: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    ground = local_profile()
    assert ground.inner_threads == threads
    assert ground.processor
    assert ground.versions["numpy"] == numpy.__version__
