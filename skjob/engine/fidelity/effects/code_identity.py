"""Give functions and classes that come back from workers the identity they have in the program.

Code of the script, and of modules beside it, travels by value: a worker creates its own function or class from it. If
that came back unchanged, the program would get a second `double` that is not its `double`, which pickle refuses to save
("it's not the same object as steps.double"). So all code that leaves by value carries a mark, and a mark that comes
back is resolved to the program's own object.

Both sides use the same registry: in the program's process it has the originals, in a worker's the copies.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import uuid4

_PROCESS = uuid4().hex
_numbers = count()
_lock = threading.RLock()
_by_identity: dict[int, tuple[weakref.ref[Any], str]] = {}
_originals: dict[str, weakref.ref[Any]] = {}
_copies: dict[str, weakref.ref[Any]] = {}
_collecting = threading.local()


def with_mark(code: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the reduced form of a function or class, with its mark.

    `reduced` is cloudpickle's form of code by value: how to create it, and how to set its state afterwards.
    """
    make, arguments, state, _, _, set_state = reduced
    return make, arguments, (mark_of_original(code), set_state, state), None, None, restore


def mark_of_original(code: Any) -> str:
    """Return the mark of a function or class of the program, the same each time."""
    with _lock:
        mark = mark_of(code)
        if mark is None:
            mark = f"{_PROCESS}-{next(_numbers)}"
            _register(code, mark, _originals)
        return mark


def mark_of(code: Any) -> str | None:
    """Return the mark of a function or class that travelled; None if it has none."""
    known = _by_identity.get(id(code))
    return known[1] if known is not None and known[0]() is code else None


def restore(code: Any, marked: tuple[str, Callable[[Any, Any], Any], Any]) -> None:
    """Set the state of a function or class that was just created from a pickle, and register its mark."""
    mark, set_state, state = marked
    set_state(code, state)
    with _lock:
        _register(code, mark, _copies)
    note_received(code)


def note_received(code: Any) -> None:
    """Collect code of the program that this thread has just unpickled, within `received_code`."""
    collected: list[Any] | None = getattr(_collecting, "codes", None)
    if collected is not None:
        collected.append(code)


def marked_object(mark: str) -> Any:
    """Return the function or class of a mark: the original if this is the program's process, else the latest copy.

    Raises
    ------
    LookupError
        The object is gone.
    """
    for registry in (_originals, _copies):
        reference = registry.get(mark)
        code = reference() if reference is not None else None
        if code is not None:
            return code
    raise LookupError("a result holds a function or class that the program does not have any more")


@contextmanager
def received_code() -> Iterator[list[Any]]:
    """Collect the functions, classes and modules of the program that this thread unpickles in the block."""
    codes: list[Any] = []
    _collecting.codes = codes
    try:
        yield codes
    finally:
        _collecting.codes = None


def _register(code: Any, mark: str, registry: dict[str, weakref.ref[Any]]) -> None:
    identity = id(code)
    by_identity = _by_identity  # as Python exits, globals are gone before what they refer to

    def forget(reference: weakref.ref[Any]) -> None:
        # In the garbage collector: no lock. A later object with the same identity has an entry of its own.
        known = by_identity.get(identity)
        if known is not None and known[0] is reference:
            by_identity.pop(identity, None)
        if registry.get(mark) is reference:
            registry.pop(mark, None)

    reference = weakref.ref(code, forget)
    _by_identity[identity] = reference, mark
    registry[mark] = reference
