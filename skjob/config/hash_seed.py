"""Give all processes of a run the same hashes of strings.

The order of a set of strings depends on them. In plain Python it is the same everywhere in a process: a set that a task
makes has the order that it has in the program. Otherwise each process has its own.
"""

from __future__ import annotations

from collections.abc import Mapping

VARIABLE = "PYTHONHASHSEED"

SEED = "6640"
"""What Dask's nanny sets (distributed 2026.8), which workers in pods do not have."""


def hash_seed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable for a process that starts with this environment: with its number, if it has one."""
    given = environment.get(VARIABLE, "")
    return {VARIABLE: given if given.isdigit() else SEED}
