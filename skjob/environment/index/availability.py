"""Whether every pinned distribution can be had for the pods' Python and platform: asked before anything is created.

uv resolves all pins at once, as the pods will install them: from the same indexes, wheels only, with nothing that only
this machine has. If that fails, the pins are halved and asked about again until each that can't be had is known, and
all are told at once, in words of ours: uv's own speak of options that the user never gave. If it is an index that
fails, each index is tried alone. What was found to be so is remembered, so that the next run need not ask.
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

from skjob.environment.index.settings import IndexSettings, shown, unconfigured
from skjob.errors import EnvironmentFault

REMEMBERED_FOR = 30 * 86_400.0
DEADLINE = 120.0
"""Seconds for all questions together."""

_AT_ONCE = 4
_FORMAT = 1
_HINT = "`skjob env` shows what would be sent; `--env FILE` installs another set, `--image` begins with another image"

_INDEX_FAILED = re.compile(r"Failed to fetch|Failed to read `--find-links`|authentication credentials|403 Forbidden")
_INDEX_FAULTS = (
    (
        r"authentication credentials|HTTP status client error \(40[13]|403 Forbidden",
        "refuses {access}",
        "pods have those of its address, of netrc, or of `UV_INDEX_<NAME>_PASSWORD`; keyrings don't travel",
    ),
    (
        r"invalid peer certificate",
        "has a certificate that is not trusted",
        "name the certificate authority with `SSL_CERT_FILE`",
    ),
    (r"dns error", "has a host name that nobody knows", "correct its address"),
    (r"Connection refused", "refuses the connection", "see that it runs, and that its address is right"),
    (r"timed out|no answer", "does not answer", "see that it runs; a company's network may want `HTTPS_PROXY` set"),
    (r"HTTP status \w+ error \((.+?)\)", "answers {found}", "see that its address is right"),
    (r"cause: (.+)\Z", "can't be asked: {found}", "see that its address is right"),
)
"""What uv says of an index; what that means; what to do."""

_PIN_FAULTS = (
    (
        r"was not found in",
        "no index that is configured has `{name}`",
        "name the index it comes from in the settings of uv or pip, or leave it out",
    ),
    (
        r"there is no version of",
        "the index has `{name}`, but not this version",
        "it may have been withdrawn, or come from another index: install one that is there",
    ),
    (
        r"does not satisfy Python.* depends on (Python\S+?),? ",
        "it is for {found}, and pods have {python}",
        "install a version for this Python",
    ),
    (
        r"matching Python \w+ tag",
        "its wheels are for {tags}, and pods have Python {python}",
        "install a version that has wheels for this Python",
    ),
    (
        r"matching platform tag",
        "its wheels are for {tags}, and pods run on `{platform}`",
        "install a version that has wheels for pods too",
    ),
    (
        r"no usable wheels|building from source is disabled",
        "the index has only its source, and pods have no compiler",
        "install a version that has wheels, or build one and put it on an index of your own",
    ),
    (r"cause: (.+?)(?:\n\n|\Z)", "uv can't install it: {found}", ""),
)
"""What uv says of a pin; what that means; what to do."""


def check_available(
    pins: Mapping[str, str],
    python: str,
    platform: str,
    settings: IndexSettings,
    cache: Path | None,
    deadline: float = DEADLINE,
) -> None:
    """See that each pin, a version by name, has a wheel that pods can install.

    `python` is the pods' version, `3.11`, and `platform` is one of uv's, `x86_64-manylinux_2_36`. A positive answer is
    remembered for 30 days in the folder `cache`.

    Raises:
        EnvironmentFault: some can't be had, or an index can't be asked; all of them, and what to do about each.
    """
    remembered = _remembered_in(cache, _key(pins, python, platform, settings)) if cache else None
    if not pins or (remembered and _is_fresh(remembered)):
        return
    asker = _Asker(python, platform, time.monotonic() + deadline)
    wanted = [f"{name}=={version}" for name, version in sorted(pins.items())]
    failed = asker.ask(wanted, settings)
    if failed:
        problems = asker.index_problems(wanted[0], settings) if failed.by_index else []
        problems = problems or asker.pin_problems(wanted, settings)
        raise EnvironmentFault.collect([settings.redact(each) for each in problems], _HINT)
    if remembered:
        _remember(remembered)


# ------------------------------------------------------------------------------------------------- questions to uv


@dataclass(frozen=True)
class _Failed:
    """A question to which uv said no, in these words."""

    pins: Sequence[str]
    said: str

    @property
    def by_index(self) -> bool:
        """Whether an index failed, rather than having no such thing."""
        return bool(_INDEX_FAILED.search(self.said))


@dataclass(frozen=True)
class _Asker:
    python: str
    platform: str
    until: float

    def ask(self, pins: Sequence[str], settings: IndexSettings) -> _Failed | None:
        """None if all can be had."""
        # A minor version alone would be its first release, and some distributions want a later one.
        python = f"{self.python}.99" if self.python.count(".") == 1 else self.python
        command = [
            _uv(), "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--python", sys.executable,
            "--python-version", python, "--python-platform", self.platform, "--color", "never", "--no-progress", "-",
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as place:  # no one else can read in it
            folder = Path(place)
            for name, content in settings.files().items():
                (folder / name).write_bytes(content)
            try:
                done = subprocess.run(
                    command,
                    env=_environment(settings, folder),
                    input="\n".join(pins),
                    cwd=folder,  # a `uv.toml` of the user's is in the settings already
                    capture_output=True,
                    text=True,
                    timeout=max(self.until - time.monotonic(), 0.01),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return _Failed(pins, "Failed to fetch: no answer")
        return _Failed(pins, _unwrapped(done.stderr.strip())) if done.returncode else None

    def index_problems(self, pin: str, settings: IndexSettings) -> list[str]:
        """Of each index by itself: whatever it says of the pin, it must say something."""
        alone = [
            *(
                (each.url, replace(settings, indexes=(replace(each, default=True),), find_links=()))
                for each in settings.indexes
            ),
            *((url, replace(settings, indexes=(), find_links=(url,), no_index=True)) for url in settings.find_links),
        ]
        if not settings.no_index and not any(each.default for each in settings.indexes):
            alone.append(("", replace(settings, indexes=(), find_links=())))
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            answers = threads.map(lambda each: self.ask([pin], each[1]), alone)
            return [
                _index_problem(url, answer.said)
                for (url, _), answer in zip(alone, answers, strict=True)
                if answer and answer.by_index
            ]

    def pin_problems(self, pins: Sequence[str], settings: IndexSettings) -> list[str]:
        """Of each pin by itself. Of groups that fail, only their halves are asked about."""
        problems: dict[str, str] = {}
        unasked: dict[str, str] = {}  # an index fails, or time is up, in the middle of it
        failed: list[Sequence[str]] = [pins]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            while failed:
                halves = [half for group in failed for half in _halves(group)]
                answers = [each for each in threads.map(lambda half: self.ask(half, settings), halves) if each]
                unasked |= {pin: each.said for each in answers if each.by_index for pin in each.pins}
                answers = [each for each in answers if not each.by_index]
                failed = [each.pins for each in answers if len(each.pins) > 1]
                problems |= {
                    each.pins[0]: _pin_problem(each, self.python, self.platform, settings)
                    for each in answers
                    if len(each.pins) == 1
                }
        told = [problems[pin] for pin in pins if pin in problems]
        if unasked:
            why = _translated(_INDEX_FAULTS, next(iter(unasked.values())), access="access")
            told.append(f"{len(unasked)} that may not be there could not be asked for: the index {why}")
        return told


def _unwrapped(said: str) -> str:
    """Its paragraphs, each in one line: uv breaks them to the width that the terminal, or `COLUMNS`, has."""
    return re.sub(r"(?<!\n)\n(?!\n)\s*", " ", said)


def _halves(group: Sequence[str]) -> list[Sequence[str]]:
    middle = len(group) // 2
    return [half for half in (group[:middle], group[middle:]) if half]


def _uv() -> str:
    from uv import find_uv_bin

    try:
        return str(find_uv_bin())
    except FileNotFoundError as error:
        raise EnvironmentFault(
            "uv, which skjob installs with, is not where it was installed", "install skjob again"
        ) from error


def _environment(settings: IndexSettings, folder: Path) -> dict[str, str]:
    """What pods have, and no more: no netrc, no store of uv's, no configuration of this machine."""
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


def _index_problem(url: str, said: str) -> str:
    """Of an index; without a URL it is uv's default one, whose address is in what uv says."""
    if not url:
        found = re.search(r"https?://[^\s)]+", said)
        url = "{0.scheme}://{0.netloc}".format(urlsplit(found[0])) if found else ""
    access = "these credentials" if "@" in url else "access without credentials"
    return f"the index `{shown(url)}` {_translated(_INDEX_FAULTS, said, access=access)}"


def _pin_problem(failed: _Failed, python: str, platform: str, settings: IndexSettings) -> str:
    pin = failed.pins[0]
    name, _, version = pin.partition("==")
    for place in settings.left_out:
        if _is_in(place, name, version):
            where = f"`{pin}`: it is in `{place}`, on this machine only, where pods can't reach it"
            return f"{where}; put it on an index, or into an image"
    told = _translated(_PIN_FAULTS, failed.said, name=name, python=python, platform=platform, tags=_tags(failed.said))
    return f"`{pin}`: {told}"


def _translated(faults: Sequence[tuple[str, str, str]], said: str, **values: str) -> str:
    for pattern, meaning, advice in faults:
        if match := re.search(pattern, said, re.DOTALL):
            found = " ".join((match.group(1) if match.lastindex else match.group()).split())
            return "; ".join(filter(None, [meaning.format(found=found, **values), advice]))
    return f"is not usable: {' '.join(said.split())}"


def _tags(said: str) -> str:
    """Those of the wheels that are there: uv's hint names them."""
    tags = re.findall(r"`[^`]+`", said.rpartition(" following ")[2])
    return ", ".join(tags) or "others"


def _is_in(place: str, name: str, version: str) -> bool:
    """Whether a folder of wheels has this one."""
    folder = Path(unquote(urlsplit(place).path) if place.startswith("file:") else place).expanduser()
    start = f"{re.sub(r'[-_.]+', '_', name)}-{version}-".lower()
    try:
        return any(each.name.lower().startswith(start) for each in folder.iterdir())
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------- remembered


def _key(pins: Mapping[str, str], python: str, platform: str, settings: IndexSettings) -> str:
    """Of a question: everything the answer depends on, without secrets."""
    indexes = [[shown(each.url), each.default] for each in settings.indexes]
    find_links = [shown(url) for url in settings.find_links]
    asked = [_FORMAT, sorted(pins.items()), python, platform, indexes, find_links, settings.no_index, settings.strategy]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def _remembered_in(cache: Path, key: str) -> Path:
    return cache / "available" / key


def _is_fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < REMEMBERED_FOR
    except OSError:
        return False


def _remember(file: Path) -> None:
    """A cache that can't be written is none."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        for each in _stale(file.parent):
            each.unlink(missing_ok=True)
        file.touch()


def _stale(folder: Path) -> Iterator[Path]:
    return (each for each in folder.iterdir() if not _is_fresh(each))
