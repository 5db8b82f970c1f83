"""Plan what a run sends to workers: for each distribution, how it gets there, and why."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skjob.environment.index.discovery import index_settings
from skjob.environment.local.archive import MAX_DISTRIBUTION_BYTES, PackedLocal, pack_local
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
    """One distribution. `bytes` is the size of its files that are sent from here."""

    name: str
    version: str
    how: TransferMethod
    why: str
    bytes: int = 0


@dataclass(frozen=True)
class TransferPlan:
    """What is sent and what is not. `problems` would make a run fail."""

    env: str
    python: str
    tool: str
    items: tuple[Item, ...]
    pins: dict[str, str]
    packed: PackedLocal
    problems: tuple[str, ...]


def plan_transfer(env: str, imported: Collection[str] = (), *, into_image: bool = False) -> TransferPlan:
    """Plan what the setting `env` sends for a program that imports these modules, or puts into an image.

    Raises:
        ConfigError: the file that `env` names, or the index settings to read it with, cannot be used.
    """
    environment = scan_environment(imported)
    if env == NONE:
        empty = pack_local(())
        why = "workers have what their image has"
        items = [Item(name, version, TransferMethod.NOT_SENT, why) for name, version in sorted(installed().items())]
        return TransferPlan(env, environment.python, environment.tool, tuple(items), {}, empty, ())
    pins = environment.pins if env == AUTO else _pins_of_file(Path(env), environment)
    packed = pack_local(environment.local, float("inf") if into_image else MAX_DISTRIBUTION_BYTES)
    items = [
        *(
            Item(name, version, TransferMethod.INDEX, _why(name, version, env, environment))
            for name, version in pins.items()
        ),
        *(
            Item(
                each.name,
                each.version,
                TransferMethod.ARCHIVE,
                f"{each.kind}: {each.origin}",
                packed.sizes.get(each.name, 0),
            )
            for each in environment.local
        ),
        *_not_sent(env, pins, environment),
    ]
    problems = (*(environment.image_problems if into_image else environment.problems), *packed.problems)
    items.sort(key=lambda item: item.name)
    return TransferPlan(env, environment.python, environment.tool, tuple(items), pins, packed, problems)


def _pins_of_file(path: Path, environment: InstalledEnvironment) -> dict[str, str]:
    local = [each.name for each in environment.local]
    index = index_settings(os.environ, Path.cwd())
    return read_lock(path, environment.python, local=local, engine=environment.engine, index=index)


def _why(name: str, version: str, env: str, environment: InstalledEnvironment) -> str:
    if name in ENGINE:
        return "part of every worker"
    if env == AUTO:
        return "installed here"
    if environment.engine.get(name) == version:
        return f"required by workers or by {env}"
    return f"requested by {env}"


def _not_sent(env: str, pins: Collection[str], environment: InstalledEnvironment) -> list[Item]:
    why = dict(environment.left_out)
    if env != AUTO:
        why = dict.fromkeys(environment.pins, f"not requested by {env}") | why
    versions = installed()
    return [
        Item(name, versions.get(name, "-"), TransferMethod.NOT_SENT, text)
        for name, text in why.items()
        if name not in pins
    ]
