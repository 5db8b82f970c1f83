"""Read what a user writes for a setting: numbers, sizes, durations, names. Each parser says what is wrong with it."""

from __future__ import annotations

import re

from skjob.config.settings import Place, WorkerRange
from skjob.utils.units import parse_quantity

MAX_SECONDS = 87600 * 3600.0
"""Above it, the moment at which it is over may be one that no calendar has."""

ARCHITECTURES = ("amd64", "arm64", "ppc64le", "s390x")
"""As nodes have them in their label `kubernetes.io/arch`."""


def parse_workers(text: str) -> WorkerRange:
    """Parse `4` or `1:20`. A minimum of 0 is allowed below a higher maximum."""
    match = re.fullmatch(r"(?:(\d+):)?(\d+)", text.strip())
    if match is None:
        raise ValueError("must be a number of workers, `4`, or a range, `1:20`")
    maximum = int(match[2])
    minimum = int(match[1]) if match[1] is not None else maximum
    if maximum < 1:
        raise ValueError("must be at least 1")
    if minimum > maximum:
        raise ValueError(f"must have a minimum, {minimum}, that is not above its maximum, {maximum}")
    return WorkerRange(minimum, maximum)


def parse_cpu(text: str) -> float:
    """Parse cores: `500m` or `2`, at least 10m."""
    cores = parse_quantity(text)
    if cores < 0.01:
        raise ValueError("must be a number of cores, at least `10m`")
    return cores


def parse_memory(text: str) -> int:
    """Parse bytes: `2Gi`, `800M`, at least 128Mi, below which a worker cannot import scikit-learn."""
    size = int(parse_quantity(text))
    if size < 128 * 2**20:
        raise ValueError("must be an amount of memory, at least `128Mi`")
    return size


def parse_gpu(text: str) -> int:
    """Parse how many GPUs each worker has: 0 to 16."""
    if not re.fullmatch(r"\d{1,2}", text.strip()) or int(text) > 16:
        raise ValueError("must be a number of GPUs from 0 to 16")
    return int(text)


def parse_arch(text: str) -> str:
    """Parse the architecture of nodes, as Kubernetes calls it."""
    if text.strip() not in ARCHITECTURES:
        raise ValueError(f"must be one of {', '.join(f'`{each}`' for each in ARCHITECTURES)}")
    return text.strip()


def parse_seconds(text: str) -> float:
    """Parse a duration into seconds: `90`, `90s`, `5m`, `2h`, `1h30m`."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if match is None or not any(match.groups()):
        raise ValueError("must be a duration such as `90s`, `5m` or `1h30m`")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise ValueError("must be a duration longer than zero")
    if total > MAX_SECONDS:
        raise ValueError("must be a duration of at most ten years, `87600h`")
    return total


def parse_grace(text: str) -> float:
    """Parse a duration of at least 10 s: a shorter one would not outlast a pause of the client."""
    seconds = parse_seconds(text)
    if seconds < 10:
        raise ValueError("must be a duration of at least `10s`")
    return seconds


def parse_cost(text: str) -> float:
    """Parse an amount of money, `5` or `0.50`, in the currency of the prices."""
    match = re.fullmatch(r"\d+(?:\.\d+)?", text.strip())
    if match is None or float(match[0]) <= 0:
        raise ValueError("must be an amount above zero, such as `5` or `0.50`")
    return float(match[0])


def parse_place(text: str) -> Place:
    """Parse the name of a place."""
    try:
        return Place(text)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(f'`{place}`' for place in Place)}") from None


def parse_name(text: str) -> str:
    """Parse a name: any that is not empty."""
    if not text.strip():
        raise ValueError("must be a name")
    return text.strip()


def parse_env(text: str) -> str:
    """Parse what pods must have: `auto`, `none`, or a file of requirements."""
    if re.match(r"[A-Za-z_][A-Za-z0-9_]*=", text.strip()):
        raise ValueError("is what pods must have installed; a variable is set with `--set-env NAME=VALUE`")
    return parse_name(text)


def parse_namespace(text: str) -> str:
    """Parse a name that a namespace can have: a DNS-1123 label."""
    if not re.fullmatch(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?", text.strip()):
        raise ValueError(
            "must be at most 63 lower-case letters, digits and hyphens, starting and ending with a letter or digit"
        )
    return text.strip()


def parse_address(text: str) -> str:
    """Parse a folder, or an address that outlives the run."""
    if not text.strip():
        raise ValueError("must be a folder, an address such as `s3://bucket/fits`, or `none`")
    if text.startswith("memory:"):
        raise ValueError("must outlive the run: a folder, an address such as `s3://bucket/fits`, or `none`")
    return text.strip()


def parse_retries(text: str) -> int:
    """Parse how often to retry a fit whose worker died: 0 to 10."""
    if not re.fullmatch(r"\d{1,2}", text.strip()) or int(text) > 10:
        raise ValueError("must be a number from 0 to 10")
    return int(text)
