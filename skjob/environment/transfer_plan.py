"""What a run would send to workers, told distribution by distribution: how each gets there, and why."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skjob.environment.index.discovery import index_settings
from skjob.environment.local.archive import MOST_BYTES, PackedLocal, pack_local
from skjob.environment.local.distributions import ENGINE, InstalledEnvironment, scan_environment
from skjob.environment.local.lockfile import read_lock
from skjob.environment.pod.requirements import installed

AUTO, NONE = "auto", "none"


class TransferMethod(StrEnum):
    """How a distribution gets to workers."""

    INDEX = "from an index"
    ARCHIVE = "as an archive"
    NOT_SENT = "not sent"


@dataclass(frozen=True)
class Item:
    """One distribution. `bytes` are those of its files that are sent from here."""

    name: str
    version: str
    how: TransferMethod
    why: str
    bytes: int = 0


@dataclass(frozen=True)
class TransferPlan:
    """Everything that is sent, and what is not. `problems` are what a run would be refused for."""

    env: str
    python: str
    tool: str
    items: tuple[Item, ...]
    pins: dict[str, str]
    packed: PackedLocal
    problems: tuple[str, ...]


def shipment(env: str, imported: Collection[str] = (), *, into_image: bool = False) -> TransferPlan:
    """What the setting `env` sends for a program that imports these modules, or puts into an image.

    Raises:
        ConfigError: the file that `env` names, or the index settings it is read with, can't be used.
    """
    found = scan_environment(imported)
    if env == NONE:
        nothing = pack_local(())
        why = "workers have what their image has"
        items = [Item(name, version, TransferMethod.NOT_SENT, why) for name, version in sorted(installed().items())]
        return TransferPlan(env, found.python, found.tool, tuple(items), {}, nothing, ())
    pins = found.pins if env == AUTO else _of_file(Path(env), found)
    packed = pack_local(found.local, float("inf") if into_image else MOST_BYTES)
    items = [
        *(Item(name, version, TransferMethod.INDEX, _why(name, version, env, found)) for name, version in pins.items()),
        *(
            Item(
                each.name,
                each.version,
                TransferMethod.ARCHIVE,
                f"{each.kind}: {each.origin}",
                packed.sizes.get(each.name, 0),
            )
            for each in found.local
        ),
        *_not_sent(env, pins, found),
    ]
    problems = (*(found.image_problems if into_image else found.problems), *packed.problems)
    items.sort(key=lambda item: item.name)
    return TransferPlan(env, found.python, found.tool, tuple(items), pins, packed, problems)


def _of_file(path: Path, found: InstalledEnvironment) -> dict[str, str]:
    local = [each.name for each in found.local]
    index = index_settings(os.environ, Path.cwd())
    return read_lock(path, found.python, local=local, engine=found.engine, index=index)


def _why(name: str, version: str, env: str, found: InstalledEnvironment) -> str:
    if name in ENGINE:
        return "a worker is made of it"
    if env == AUTO:
        return "installed here"
    if found.engine.get(name) == version:
        return f"a worker needs it, or {env} does"
    return f"{env} asks for it"


def _not_sent(env: str, pins: Collection[str], found: InstalledEnvironment) -> list[Item]:
    why = dict(found.left_out)
    if env != AUTO:
        why = dict.fromkeys(found.pins, f"{env} does not ask for it") | why
    versions = installed()
    return [
        Item(name, versions.get(name, "-"), TransferMethod.NOT_SENT, text)
        for name, text in why.items()
        if name not in pins
    ]
