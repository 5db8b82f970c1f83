"""Parse quantities as Kubernetes writes them, and format quantities, durations and scores for people."""

from __future__ import annotations

import math
import re

_SUFFIXES = {
    "": 1, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
}  # fmt: skip


def parse_quantity(text: str) -> float:
    """Return a Kubernetes quantity, `500m`, `2`, `2Gi`, as a plain number; `2GB` is read as `2G`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise ValueError("must be a quantity such as `500m`, `2` or `2Gi`")
    return float(match[1]) * _SUFFIXES[match[2]]


_MIB, _GIB = 2**20, 2**30


def quantity(text: object) -> float:
    """Return a quantity of the Kubernetes API's as a number; 0 for a wrong one, which an API server would reject."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 0.0


def format_cpus(cores: float) -> str:
    """Format a number of cores: `1 CPU`, `0.5 CPUs`."""
    return f"{cores:g} CPU{'s' * (cores != 1)}"


def format_bytes(size: float) -> str:
    """Format a number of bytes: `7.7 GiB`, `2 GiB`, `512 MiB`, `1.5 MiB`."""
    if size >= _GIB:
        return f"{size / _GIB:.1f} GiB".replace(".0 ", " ")
    return f"{size / _MIB:.{0 if size >= 10 * _MIB else 1}f} MiB".replace(".0 ", " ")


def format_gpus(gpus: int) -> str:
    """Format a number of GPUs: `1 GPU`, `2 GPUs`."""
    return f"{gpus} GPU{'s' * (gpus != 1)}"


def format_size(cpu: float, memory: float, gpus: int = 0) -> str:
    """Format a size: `2 CPUs and 7.7 GiB`, `2 CPUs and 7.7 GiB and 1 GPU`, without a part that is 0."""
    parts = [format_cpus(cpu)] * bool(cpu) + [format_bytes(memory)] * bool(memory) + [format_gpus(gpus)] * bool(gpus)
    return " and ".join(parts) or "any size"


def whole_gibibytes(size: int) -> str:
    """Format a number of bytes, rounded up to whole gibibytes, as a setting takes it."""
    return f"{-(-size // _GIB)} GiB"


def format_duration(seconds: float) -> str:
    """Format a duration: `0.25 s`, `41.5 s`, `2 min 05 s`, `3 h 20 min`."""
    if seconds < 59.95:
        if seconds >= 1 or seconds < 0.0005:
            return f"{seconds:.1f} s" if seconds >= 1 else "0 s"
        return f"{seconds:.2f} s" if seconds >= 0.01 else f"{seconds:.3f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = whole // 60
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_rough_duration(seconds: float) -> str:
    """Format an estimate: `29 s`, `12 min`, `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def format_score(value: float, digits: int = 5) -> str:
    """Format a score with so many significant digits at most, `-` if there is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}g}"
