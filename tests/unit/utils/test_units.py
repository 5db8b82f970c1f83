"""How amounts of memory and of cores are written for people."""

import pytest

from skjob.utils.units import format_bytes, format_size

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 MiB"),
        (1536, "0 MiB"),
        (2**20, "1 MiB"),
        (3 * 2**19, "1.5 MiB"),
        (2**28, "256 MiB"),
        (2**30, "1 GiB"),
        (3 * 2**29, "1.5 GiB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("cpu", "memory", "text"),
    [(2, 2**30, "2 CPUs and 1 GiB"), (0.5, 0, "0.5 CPUs"), (0, 2**29, "512 MiB"), (0, 0, "any size")],
)
def test_a_size_leaves_out_what_is_not_requested(cpu: float, memory: float, text: str) -> None:
    assert format_size(cpu, memory) == text
