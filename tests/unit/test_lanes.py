"""Test the order of lanes of tests, which several processes take from one queue."""

from __future__ import annotations

import pytest
from support.xdist_lanes import SIDE_BY_SIDE, USER_ENVIRONMENT, WHOLE_CLUSTER, next_lanes

pytestmark = pytest.mark.unit

WHOLE, USER, SIDE = WHOLE_CLUSTER[0], USER_ENVIRONMENT[0], SIDE_BY_SIDE[0]
LOCAL, OTHER = "tests/integration/test_run.py", "tests/kind/test_policies.py"
LANES = [SIDE, LOCAL, OTHER, USER, WHOLE]


def test_lanes_that_need_the_cluster_wait_for_it() -> None:
    assert next_lanes(LANES, cluster_is_ready=False)[0] == LOCAL


def test_longest_lanes_come_first_once_the_cluster_is_ready() -> None:
    assert next_lanes(LANES, cluster_is_ready=True) == [WHOLE, USER, LOCAL, OTHER, SIDE]


def test_runs_side_by_side_follow_the_tests_of_the_whole_cluster() -> None:
    left = [lane for lane in LANES if lane not in (WHOLE, USER)]
    assert next_lanes(left, cluster_is_ready=True, taken={WHOLE}) == [SIDE, LOCAL, OTHER]
