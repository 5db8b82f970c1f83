"""Find code that asks for what only the program's own process can answer.

Code that travels has the global names that it uses, and no others: `globals()["model"]` finds less on a worker. The
arguments of the program, its process and its main thread are other ones there.

What Python calls so counts: not variables and functions of the program that have such a name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from skjob.engine.checkpoint.bytecode import Uses, uses

_ARGUMENTS = frozenset({"sys", "argv"})

_NAMESPACES = frozenset({"globals", "eval", "exec"})

_PROCESS = frozenset({"current_process", "parent_process", "main_thread"})
"""What code asks to know whether it is the program's own process. Numbers of processes are mostly logged."""

_MODULES = frozenset({"threading", "multiprocessing"})
"""Where these functions are."""

_RETURN_MODULES = frozenset({"__import__", "import_module", "get_context"})
"""Functions that return such a module, or what has its functions."""

_UNKNOWN = object()


def why_of_process(codes: Iterable[Any], *, shares_memory: bool) -> str:
    """Return why a call of these functions must run in the program's process; empty if none asks for it.

    `shares_memory`: whether plain Python runs the call there. Otherwise its processes answer as workers do.
    """
    for code in codes:
        if not isinstance(code, FunctionType):
            continue
        if _ARGUMENTS.issubset(code.__code__.co_names):
            return "its tasks read the arguments of the program, `sys.argv`"
        if not shares_memory:
            continue
        used = uses(code.__code__)
        for chain in used.chains:
            built_in = chain[0] in _NAMESPACES and chain[0] not in code.__globals__
            if built_in or chain[:2] == ("sys", "modules"):
                return f"its tasks look up names of the program by `{'.'.join(chain[:2])}`"
        if names := sorted(_process_functions(used, code)):
            return f"its tasks ask in which process or thread they run, by `{names[0]}`"
    return ""


def _process_functions(used: Uses, code: FunctionType) -> Iterator[str]:
    """Yield the names by which a function asks for its process or thread."""
    for chain in used.chains:
        value: Any = code.__globals__.get(chain[0], _UNKNOWN)
        for number, name in enumerate(chain):
            if number:
                value = vars(value).get(name, _UNKNOWN) if type(value) is ModuleType else _UNKNOWN
            yield from _named(name, value)
    # The attributes of what is no global are in no chain: of a module that a function imports, or gets from another.
    if _RETURN_MODULES & used.keywords:
        yield from _PROCESS & used.keywords
    for each in used.imports:
        if each.module.partition(".")[0] in _MODULES:
            yield from _PROCESS & (set(each.names) or used.keywords)
    for name, cell in zip(code.__code__.co_freevars, code.__closure__ or (), strict=False):
        with suppress(ValueError):  # without a value yet
            value = cell.cell_contents
            if type(value) is ModuleType and value.__name__ in _MODULES:
                yield from _PROCESS & used.keywords
            else:
                yield from _named(name, value)


def _named(name: str, value: Any) -> Iterator[str]:
    """Yield the name of a function of Python's that asks; a value that is not known may be one."""
    if value is _UNKNOWN:
        yield from {name} & _PROCESS
    elif isinstance(value, FunctionType | BuiltinFunctionType) and _is_of_python(value):
        yield from {value.__name__} & _PROCESS


def _is_of_python(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] in sys.stdlib_module_names
