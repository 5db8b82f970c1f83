"""The state of a digest while an object is walked, and what the writers of all kinds of objects share."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skjob.engine.transfer.code_origin import Origins


class Unidentifiable(Exception):
    """An object whose content cannot be determined. The message names it, and what contains it."""

    def __init__(self, what: str, holder: str = "") -> None:
        super().__init__(what, holder)
        self.what = what
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.what} in {self.holder}" if self.holder else self.what


def asks_for_jobs(name: str, value: Any) -> bool:
    """Return whether a parameter, also of a part such as `model__n_jobs`, asks for other than one job."""
    return name.endswith("n_jobs") and isinstance(value, int | np.integer) and value != 1


@contextmanager
def naming_holder(holder: str) -> Iterator[None]:
    """Name the holder of what cannot be identified within the block, unless a holder inside is named."""
    try:
        yield
    except Unidentifiable as error:
        if not error.holder:
            error.holder = holder
        raise


@dataclass(frozen=True)
class Digest:
    """The digest of an object.

    `seeded` is False if the object reaches code that draws random numbers without a seed. `asks_for_jobs` is True if it
    contains an estimator, or reaches local code, whose result may depend on how many jobs plain Python has for it.
    `local` is True if it reaches local code.
    """

    value: bytes
    seeded: bool = True
    asks_for_jobs: bool = False
    local: bool = False


@dataclass
class Walk:
    """A digest in progress. `code` is True within a function or class, which is walked as a whole."""

    code: bool
    out: list[bytes] = field(default_factory=list)
    numbers: dict[int | str, int] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)
    seeded: bool = True
    expects_seed: bool = True
    asks_for_jobs: bool = False
    local: bool = False

    def note_jobs(self, name: Any, value: Any) -> None:
        """Note a parameter `n_jobs` that asks for other than one job."""
        self.asks_for_jobs |= type(name) is str and asks_for_jobs(name, value)

    def add(self, digest: Digest) -> None:
        """Add the properties of a part that has a digest of its own."""
        self.seeded &= digest.seeded
        self.asks_for_jobs |= digest.asks_for_jobs
        self.local |= digest.local

    def seen(self, value: Any) -> bool:
        """Return whether this mutable object was seen before, and write its number then. It stays alive, for its id."""
        number = self.numbers.get(id(value))
        if number is not None:
            self.out.append(b"@%d;" % number)
            return True
        self.numbers[id(value)] = len(self.numbers)
        self.alive.append(value)
        return False

    def end(self) -> Digest:
        """Return the digest of all that was written."""
        value = hashlib.blake2b(b"".join(self.out), digest_size=20).digest()
        return Digest(value, self.seeded, self.asks_for_jobs, self.local)


def encode_text(tag: bytes, text: str) -> bytes:
    """Return a text with its kind and length, so that a sequence of texts is unambiguous."""
    content = text.encode("utf-8", "surrogatepass")
    return b"%b%d:%b" % (tag, len(content), content)


def describe_type(value: Any) -> str:
    """Return the type of a value as a message names it."""
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"a `{module}{kind.__qualname__}`"


def is_found_by_name(value: Any, module: str, qualified: str) -> bool:
    """Return whether an import by this name finds the very same object."""
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found is value


class Writer:
    """What all writers share: names in order, tagged parts, and what a library defines.

    Parameters
    ----------
    origins : Origins
        Distinguishes libraries from local code.
    """

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._tokens: dict[int, tuple[Any, bytes]] = {}

    def _write(self, walk: Walk, value: Any) -> None:
        """Write any value; `Hasher` knows how."""
        raise NotImplementedError

    def _write_class(self, walk: Walk, value: type) -> None:
        """Write a class; `CodeHasher` knows how."""
        raise NotImplementedError

    def _tagged(self, walk: Walk, tag: bytes, *parts: Any) -> None:
        walk.out.append(b"<%b%d:" % (tag, len(parts)))
        for part in parts:
            self._write(walk, part)

    def _write_names(self, walk: Walk, values: Mapping[str, Any], holder: str) -> None:
        """Write attributes and the like, whose order does not matter."""
        walk.out.append(b"n%d:" % len(values))
        for name in sorted(values):
            walk.out.append(encode_text(b"s", name))
            walk.note_jobs(name, values[name])
            try:
                self._write(walk, values[name])
            except Unidentifiable as error:
                error.holder = error.holder or f"`{name}` of {holder}"
                raise

    def _library_token(self, value: Any) -> bytes | None:
        """Return name and version of what an installed library defines; None if it is local or has no name."""
        known = self._tokens.get(id(value))
        if known is not None:
            return known[1]
        module = getattr(value, "__module__", None)
        qualified = getattr(value, "__qualname__", None)
        if type(module) is not str or type(qualified) is not str:
            return None
        library = self._origins.library(module)
        if library is None or not is_found_by_name(value, module, qualified):
            return None
        token = encode_text(b"L", f"{library} {module} {qualified}")
        self._tokens[id(value)] = value, token
        return token
