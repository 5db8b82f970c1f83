"""Check before anything is created that every pinned distribution is available for the pods' Python and platform.

uv resolves all pins at once, as the pods will install them: from the same indexes, wheels only, without anything that
exists only on this machine. If that fails, the pins are halved and resolved again until each unavailable one is known,
and all are reported at once in our own words: uv's would mention options that the user never gave. If an index fails,
each index is tried alone. A positive result is cached, so that the next run need not check again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from skjob.environment.index.settings import IndexSettings, public_address, unconfigured
from skjob.errors import EnvironmentFault

ANSWER_TTL = 30 * 86_400.0
_CHECK_TIMEOUT = 120.0
"""Seconds for all resolutions together."""

_CONCURRENCY = 4
_FORMAT = 1
_HINT = "`skjob env` shows what would be sent; `--env FILE` installs another set, `--image` starts from another image"

_INDEX_FAILED = re.compile(r"Failed to fetch|Failed to read `--find-links`|authentication credentials|403 Forbidden")
_INDEX_FAULTS = (
    (
        r"authentication credentials|HTTP status client error \(40[13]|403 Forbidden",
        "rejects {access}",
        "pods get those of its address, of netrc, or of `UV_INDEX_<NAME>_PASSWORD`; keyrings are not sent",
    ),
    (
        r"invalid peer certificate",
        "has a certificate that is not trusted",
        "name the certificate authority with `SSL_CERT_FILE`",
    ),
    (r"dns error", "has an unknown host name", "fix its address"),
    (r"Connection refused", "refuses the connection", "check that it runs, and its address"),
    (r"timed out|no answer", "does not answer", "check that it runs; a company's network may need `HTTPS_PROXY`"),
    (r"HTTP status \w+ error \((.+?)\)", "answers {found}", "check its address"),
    (r"cause: (.+)\Z", "fails: {found}", "check its address"),
)
"""A pattern of uv's output about an index; what it means; what to do."""

_PIN_FAULTS = (
    (
        r"was not found in",
        "no configured index has `{name}`",
        "add its index to the settings of uv or pip, or leave it out",
    ),
    (
        r"there is no version of",
        "the index has `{name}`, but not this version",
        "it may have been withdrawn, or come from another index: install one that exists",
    ),
    (
        r"does not satisfy Python.* depends on (Python\S+?),? ",
        "it is for {found}, but pods have {python}",
        "install a version for this Python",
    ),
    (
        r"matching Python \w+ tag",
        "its wheels are for {tags}, but pods have Python {python}",
        "install a version that has wheels for this Python",
    ),
    (
        r"matching platform tag",
        "its wheels are for {tags}, but pods run on `{platform}`",
        "install a version that has wheels for pods too",
    ),
    (
        r"no usable wheels|building from source is disabled",
        "the index has only its source, but pods have no compiler",
        "install a version that has wheels, or build one and publish it on your own index",
    ),
    (r"cause: (.+?)(?:\n\n|\Z)", "uv cannot install it: {found}", ""),
)
"""A pattern of uv's output about a pin; what it means; what to do."""


def check_pins_available(
    pins: Mapping[str, str],
    python: str,
    platform: str,
    settings: IndexSettings,
    cache: Path | None,
    deadline: float = _CHECK_TIMEOUT,
) -> None:
    """Check that each pin, a version by name, has a wheel that pods can install.

    `python` is the pods' version, `3.11`, and `platform` is one of uv's, `x86_64-manylinux_2_36`. A positive answer is
    cached for 30 days in the folder `cache`.

    Raises:
        EnvironmentFault: pins are not available, or indexes fail; all of them, and what to do about each.
    """
    cache_file = _cache_file(cache, _key(pins, python, platform, settings)) if cache else None
    if not pins or (cache_file and _is_fresh(cache_file)):
        return
    resolver = _Resolver(python, platform, time.monotonic() + deadline)
    requested = [f"{name}=={version}" for name, version in sorted(pins.items())]
    failed = resolver.resolve(requested, settings)
    if failed:
        problems = resolver.index_problems(requested[0], settings) if failed.by_index else []
        problems = problems or resolver.pin_problems(requested, settings)
        raise EnvironmentFault.collect([settings.redact(each) for each in problems], _HINT)
    if cache_file:
        _store_answer(cache_file)


# ------------------------------------------------------------------------------------------------- resolution by uv


@dataclass(frozen=True)
class _Failure:
    """Pins that uv cannot resolve, and its output."""

    pins: Sequence[str]
    output: str

    @property
    def by_index(self) -> bool:
        """Whether an index failed, rather than not having the pins."""
        return bool(_INDEX_FAILED.search(self.output))


@dataclass(frozen=True)
class _Resolver:
    python: str
    platform: str
    deadline: float

    def resolve(self, pins: Sequence[str], settings: IndexSettings) -> _Failure | None:
        """Resolve the pins. Return None if all are available."""
        # A minor version alone means its first release, but some distributions need a later one.
        python = f"{self.python}.99" if self.python.count(".") == 1 else self.python
        command = [
            _uv(), "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable,
            "--python-version", python, "--python-platform", self.platform, "--color", "never", "--no-progress", "-",
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as place:  # private to this user
            folder = Path(place)
            for name, content in settings.files().items():
                (folder / name).write_bytes(content)
            try:
                result = subprocess.run(
                    command,
                    env=_environment(settings, folder),
                    input="\n".join(pins),
                    cwd=folder,  # a `uv.toml` of the user's is in the settings already
                    capture_output=True,
                    text=True,
                    timeout=max(self.deadline - time.monotonic(), 0.01),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return _Failure(pins, "Failed to fetch: no answer")
        return _Failure(pins, _unwrap(result.stderr.strip())) if result.returncode else None

    def index_problems(self, pin: str, settings: IndexSettings) -> list[str]:
        """Return the problems of the indexes, each asked alone for one pin."""
        alone = [
            *(
                (each.url, replace(settings, indexes=(replace(each, default=True),), find_links=()))
                for each in settings.indexes
            ),
            *((url, replace(settings, indexes=(), find_links=(url,), no_index=True)) for url in settings.find_links),
        ]
        if not settings.no_index and not any(each.default for each in settings.indexes):
            alone.append(("", replace(settings, indexes=(), find_links=())))
        with ThreadPoolExecutor(_CONCURRENCY) as threads:
            answers = threads.map(lambda each: self.resolve([pin], each[1]), alone)
            return [
                _index_problem(url, answer.output)
                for (url, _), answer in zip(alone, answers, strict=True)
                if answer and answer.by_index
            ]

    def pin_problems(self, pins: Sequence[str], settings: IndexSettings) -> list[str]:
        """Return the problem of each unavailable pin, by resolving halves of the groups that fail."""
        problems: dict[str, str] = {}
        unresolved: dict[str, str] = {}  # an index failed, or time ran out
        failed: list[Sequence[str]] = [pins]
        with ThreadPoolExecutor(_CONCURRENCY) as threads:
            while failed:
                halves = [half for group in failed for half in _halves(group)]
                answers = [each for each in threads.map(lambda half: self.resolve(half, settings), halves) if each]
                unresolved |= {pin: each.output for each in answers if each.by_index for pin in each.pins}
                answers = [each for each in answers if not each.by_index]
                failed = [each.pins for each in answers if len(each.pins) > 1]
                problems |= {
                    each.pins[0]: _pin_problem(each, self.python, self.platform, settings)
                    for each in answers
                    if len(each.pins) == 1
                }
        reported = [problems[pin] for pin in pins if pin in problems]
        if unresolved:
            why = _explain(_INDEX_FAULTS, next(iter(unresolved.values())), access="access")
            reported.append(f"{len(unresolved)} more could not be checked: the index {why}")
        return reported


def _unwrap(output: str) -> str:
    """Return uv's paragraphs, each in one line: uv wraps them at the width of the terminal, or of `COLUMNS`."""
    return re.sub(r"(?<!\n)\n(?!\n)\s*", " ", output)


def _halves(group: Sequence[str]) -> list[Sequence[str]]:
    middle = len(group) // 2
    return [half for half in (group[:middle], group[middle:]) if half]


def _uv() -> str:
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError as error:
        raise EnvironmentFault(
            "uv, which skjob needs to install packages, is missing", "install skjob again"
        ) from error


def _environment(settings: IndexSettings, folder: Path) -> dict[str, str]:
    """Return only the variables that pods have: no netrc, no credentials store, no configuration of this machine."""
    given = unconfigured(os.environ)
    variables = settings.uv_variables(folder)
    return {
        "UV_HTTP_TIMEOUT": "20",
        "UV_HTTP_RETRIES": "2",
        **given,
        "NETRC": os.devnull,
        "UV_CREDENTIALS_DIR": str(folder),
        **({} if "UV_CONFIG_FILE" in variables else {"UV_NO_CONFIG": "1"}),
        **variables,
    }


# ------------------------------------------------------------------------------------------------- what they mean


def _index_problem(url: str, output: str) -> str:
    """Describe the problem of an index; without a URL it is uv's default one, whose address is in uv's output."""
    if not url:
        found = re.search(r"https?://[^\s)]+", output)
        url = "{0.scheme}://{0.netloc}".format(urlsplit(found[0])) if found else ""
    access = "these credentials" if "@" in url else "access without credentials"
    return f"the index `{public_address(url)}` {_explain(_INDEX_FAULTS, output, access=access)}"


def _pin_problem(failed: _Failure, python: str, platform: str, settings: IndexSettings) -> str:
    pin = failed.pins[0]
    name, _, version = pin.partition("==")
    for place in settings.left_out:
        if _is_in(place, name, version):
            where = f"`{pin}`: it is in `{place}`, on this machine only, where pods cannot reach it"
            return f"{where}; publish it on an index, or put it into an image"
    reported = _explain(
        _PIN_FAULTS, failed.output, name=name, python=python, platform=platform, tags=_tags(failed.output)
    )
    return f"`{pin}`: {reported}"


def _explain(faults: Sequence[tuple[str, str, str]], output: str, **values: str) -> str:
    for pattern, meaning, advice in faults:
        if match := re.search(pattern, output, re.DOTALL):
            found = " ".join((match.group(1) if match.lastindex else match.group()).split())
            return "; ".join(filter(None, [meaning.format(found=found, **values), advice]))
    return f"is not usable: {' '.join(output.split())}"


def _tags(output: str) -> str:
    """Return the tags of the existing wheels, which uv's hint names."""
    tags = re.findall(r"`[^`]+`", output.rpartition(" following ")[2])
    return ", ".join(tags) or "others"


def _is_in(place: str, name: str, version: str) -> bool:
    """Return whether a folder of wheels has this one."""
    folder = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place).expanduser()
    start = f"{re.sub(r'[-_.]+', '_', name)}-{version}-".lower()
    try:
        return any(each.name.lower().startswith(start) for each in folder.iterdir())
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------- cache


def _key(pins: Mapping[str, str], python: str, platform: str, settings: IndexSettings) -> str:
    """Return the key of everything that the answer depends on, without secrets."""
    indexes = [[public_address(each.url), each.default] for each in settings.indexes]
    find_links = [public_address(url) for url in settings.find_links]
    question = [
        _FORMAT,
        sorted(pins.items()),
        python,
        platform,
        indexes,
        find_links,
        settings.no_index,
        settings.strategy,
    ]
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]


def _cache_file(cache: Path, key: str) -> Path:
    return cache / "available" / key


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < ANSWER_TTL
    except OSError:
        return False


def _store_answer(file: Path) -> None:
    """Store a positive answer, if the cache can be written, and delete expired ones."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        for each in _expired(file.parent):
            each.unlink(missing_ok=True)
        file.touch()


def _expired(folder: Path) -> Iterator[Path]:
    return (each for each in folder.iterdir() if not _is_fresh(each))
