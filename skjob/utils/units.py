"""Amounts as Kubernetes writes them and as people read them."""

from __future__ import annotations

import re

_SUFFIXES = {
    "": 1, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}  # fmt: skip


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity, `500m`, `2`, `2Gi`, as a plain number; `2GB` is taken as `2G`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError("must be a quantity such as `500m`, `2` or `2Gi`")
    return float(match[1]) * _SUFFIXES[match[2]]


_GIB = 2**30


def quantity(text: object) -> float:
    """A quantity of the API's as a number; 0 for what can't be read, which no API server would have let in."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 0.0


def format_cpus(cores: float) -> str:
    """`1 CPU`, `0.5 CPUs`."""
    return f"{cores:g} CPU{'s' * (cores != 1)}"


def format_memory(size: float) -> str:
    """`7.7 GiB`, `512 MiB`."""
    if size < _GIB:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / _GIB:.1f} GiB".replace(".0 GiB", " GiB")


def format_size(cpu: float, memory: float) -> str:
    """`2 CPUs and 7.7 GiB`, without what is not asked for."""
    return " and ".join([format_cpus(cpu)] * bool(cpu) + [format_memory(memory)] * bool(memory)) or "any size"


def format_bytes(size: int) -> str:
    """Bytes for people: `1.4 GiB`, `230 MiB`."""
    if size >= _GIB:
        return f"{size / _GIB:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 10 * 2**20 else f"{size / 2**20:.1f} MiB"


def whole_gibibytes(size: int) -> str:
    """Rounded up, as a setting takes it."""
    return f"{-(-size // _GIB)} GiB"
