"""Which known name a message suggests for one that is not known."""

import pytest

from skjob.errors import did_you_mean

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("gird", ["grid", "random"], "; did you mean `grid`?"),
        ("SCV", ["SVR", "SVC"], "; did you mean `SVC`?"),
        ("c", ["C", "cache_size"], "; did you mean `C`?"),
        ("C", ["svc", "svc__C", "svc__gamma"], "; did you mean `svc__C`?"),
        ("unrelated", ["grid", "random"], ""),
        (3, ["grid"], ""),
    ],
)
def test_nearest_name(name: object, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said
