"""Find code that asks for what only the program's own process can answer.

Code that travels has the global names that it uses, and no others: `globals()["model"]` finds less on a worker. The
arguments of the program, the number of its process and its main thread are other ones there.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any

from skjob.engine.checkpoint.bytecode import uses

_ARGUMENTS = frozenset({"sys", "argv"})

_NAMESPACES = frozenset({"globals", "eval", "exec"})

_PROCESS = frozenset(
    {"getpid", "getppid", "current_process", "parent_process", "main_thread", "current_thread", "get_ident"}
)


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
        if asked := sorted(_PROCESS & used.words):
            return f"its tasks ask in which process or thread they run, by `{asked[0]}`"
    return ""
