"""Environment variables of which each worker has a value of its own, and that the program's code reads.

They do not travel. The program sends a digest of each value that it has, and a task that reads one with another value
reports it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from skjob.engine.fidelity.settings.program_reads import ProgramReads
from skjob.engine.fidelity.settings.values import ProgramSettings
from skjob.engine.fidelity.settings.variables import Reads, aliases_in, is_workers_own, reads

ANY_NAME = "*"
"""Stands for all variables, if the program's code builds names at run time."""


def own_digests(read: ProgramReads) -> tuple[tuple[str, str], ...]:
    """Return the variables of which each worker has its own, with the digests of their values in this process."""
    names = sorted(read.own | {ANY_NAME} if read.dynamic else read.own)
    return tuple((name, _digest(name)) for name in names)


def _digest(name: str) -> str:
    """Return the digest of a variable's value in this process; for `ANY_NAME`, of all that could travel."""
    if name == ANY_NAME:
        value: str | None = repr(sorted(each for each in os.environ.items() if not is_workers_own(each[0])))
    else:
        value = os.environ.get(name)
    return "" if value is None else hashlib.blake2b(os.fsencode(value), digest_size=16).hexdigest()


def differing_variables(settings: ProgramSettings, codes: Iterable[Any]) -> tuple[str, ...]:
    """Return the variables that this code of a task reads and that have another value on this worker."""
    if not settings.own_variables:
        return ()
    read = Reads()
    for code in codes:
        if isinstance(code, FunctionType):
            read |= reads(code.__code__, aliases_in(code.__globals__)).resolved(code.__globals__)
    return tuple(
        name
        for name, digest in settings.own_variables
        if (read.dynamic if name == ANY_NAME else name in read.names) and _digest(name) != digest
    )


def describe_difference(name: str) -> str:
    """Return the line that reports such a variable."""
    if name == ANY_NAME:
        return (
            "tasks read environment variables by names made at run time; on workers they find those that "
            "the program has set, or whose names stand in its code"
        )
    return f"tasks read the environment variable `{name}`, and workers have a value of their own"
