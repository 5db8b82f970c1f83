"""Find out which environment variables code reads by name, and which of them are a worker's own.

The names are in the instructions, next to `os.environ` or `os.getenv`. Names that code builds at run time are unknown:
`Reads.dynamic` is set for such code.
"""

from __future__ import annotations

import dis
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from skjob.engine.checkpoint.bytecode import ATTRIBUTE, GLOBAL, IGNORED

MAPPINGS = frozenset({"environ", "environb"})
FUNCTIONS = frozenset({"getenv", "getenvb"})
LOOKUPS = frozenset({"get", "setdefault", "pop", "__getitem__", "__contains__"})
"""Methods of `os.environ` whose first argument is the name."""
USES = frozenset({"BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR", "CALL", "CALL_KW", "CALL_FUNCTION_EX"})
MAKES = frozenset({"FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "BUILD_STRING", "BINARY_OP"})
"""Instructions that may build a name from parts."""

WRITES = frozenset({"update", "__setitem__"})

OWN_NAMES = frozenset(
    {
        "PATH", "HOME", "TMPDIR", "TEMP", "TMP", "PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "KUBECONFIG",
        "LOKY_MAX_CPU_COUNT", "VECLIB_MAXIMUM_THREADS", "SSL_CERT_FILE", "SSL_CERT_DIR",
    }
)  # fmt: skip
OWN_BEGINNINGS = (
    "LD_", "DYLD_", "PYTHON", "DASK_", "KUBERNETES_", "SKJOB_", "MALLOC_",
    "OMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_",
)  # fmt: skip
"""Libraries read those of the last line when they are loaded, which has happened on a worker before."""
OWN_ENDS = ("_NUM_THREADS",)

SECRET_NAMES: set[str] = set()
"""Variables of this process whose values must not be seen. Not even a digest of one is kept: it could be guessed."""


@dataclass(frozen=True)
class Reads:
    """The `names` of variables that code reads.

    `through` are global names whose value is the name of a variable. `dynamic` means that other names are built at run
    time.
    """

    names: frozenset[str] = frozenset()
    through: frozenset[str] = frozenset()
    dynamic: bool = False

    def resolved(self, scope: Mapping[str, Any]) -> Reads:
        """Return these reads with the global names looked up in `scope`."""
        values = [scope.get(name) for name in self.through]
        texts = [value for value in values if isinstance(value, str)]
        return Reads(self.names.union(texts), frozenset(), self.dynamic or len(texts) < len(values))

    def __or__(self, other: Reads) -> Reads:
        return Reads(self.names | other.names, self.through | other.through, self.dynamic or other.dynamic)


def is_workers_own(name: str) -> bool:
    """Return whether a variable describes the machine or the worker it is on, and never travels."""
    return name in OWN_NAMES or name.startswith(OWN_BEGINNINGS) or name.endswith(OWN_ENDS)


def aliases_in(scope: Mapping[str, Any]) -> frozenset[str]:
    """Return the global names that refer to `os.environ` or `os.getenv`."""
    found = {name for name, value in list(scope.items()) if value is os.environ or value is os.getenv}
    return frozenset(found - MAPPINGS - FUNCTIONS)


@lru_cache(maxsize=4096)
def reads(code: CodeType, aliases: frozenset[str] = frozenset()) -> Reads:
    """Return what `code`, and the code within it, reads of the environment."""
    found = own_reads(code, aliases)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= reads(constant, aliases)
    return found


def own_reads(code: CodeType, aliases: frozenset[str] = frozenset()) -> Reads:
    """Return what `code` itself reads of the environment, without the code within it."""
    names: set[str] = set()
    through: set[str] = set()
    dynamic = False
    steps = [step for step in dis.get_instructions(code) if step.opname not in IGNORED]
    for number, step in enumerate(steps):
        following = steps[number + 1 : number + 3]
        if step.opname == "IMPORT_FROM" and (step.argval in MAPPINGS or step.argval in FUNCTIONS):
            dynamic = dynamic or following[0].argval not in {step.argval, *aliases}
            continue
        if not _is_environment(step, aliases):
            continue
        if following and following[0].opname in ("STORE_NAME", "STORE_GLOBAL") and following[0].argval in aliases:
            continue  # the alias is what is read
        if following and following[0].opname in ATTRIBUTE:
            if following[0].argval in WRITES:
                continue
            if following[0].argval not in LOOKUPS:  # items, copy: any name
                dynamic = True
                continue
            following = following[1:]
        built = _is_built(steps, number + 1)
        if following and following[0].opname == "CONTAINS_OP":
            first = number - 1 if step.opname in ATTRIBUTE else number
            following, built = steps[max(0, first - 1) : first], False
        name = following[0] if following else None
        dynamic = dynamic or built
        if name is not None and name.opname in GLOBAL:
            through.add(str(name.argval))
        elif name is not None and name.opname.startswith("LOAD_CONST") and isinstance(name.argval, str | bytes):
            names.add(os.fsdecode(name.argval))
        else:
            dynamic = True
    return Reads(frozenset(names), frozenset(through), dynamic)


def _is_built(steps: list[dis.Instruction], start: int) -> bool:
    """Return whether something is built before the name is used: a part of it, or a default for a missing one."""
    for number, step in enumerate(steps[start:]):
        if step.opname in USES or (step.opname == "BINARY_OP" and step.argrepr == "[]"):
            return False
        if step.opname in MAKES or (step.opname in ATTRIBUTE and number > 0 and steps[start].opname not in ATTRIBUTE):
            return True
    return False


def _is_environment(step: dis.Instruction, aliases: frozenset[str]) -> bool:
    if not step.opname.startswith("LOAD_") or not isinstance(step.argval, str) or step.opname == "LOAD_CONST":
        return False
    return step.argval in MAPPINGS or step.argval in FUNCTIONS or (step.opname in GLOBAL and step.argval in aliases)
