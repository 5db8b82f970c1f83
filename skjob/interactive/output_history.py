"""What IPython remembers of the values that cells have shown: `Out[1]`, `_1` and `_`."""

from __future__ import annotations

import re
from typing import Any

_LAST = ("_", "__", "___")
_OF_IPYTHON = re.compile(r"_{1,3}|_\d+")


def forget_shown(shell: Any, shown: object) -> None:
    """Make IPython's shell forget a value that it has shown, if a variable of the user's holds it too.

    Otherwise the value would live on when the variable gets another one. One that only IPython holds is left.
    """
    variables: dict[str, Any] = shell.user_ns
    if not any(value is shown for name, value in [*variables.items()] if not _OF_IPYTHON.fullmatch(name)):
        return
    namespaces = (variables, getattr(shell, "user_ns_hidden", {}))
    results = variables.get("_oh", {})
    for number in [number for number, value in results.items() if value is shown]:
        del results[number]
        for namespace in namespaces:
            if namespace.get(f"_{number}") is shown:
                del namespace[f"_{number}"]
    for name in _LAST:
        # The shell updates the variables only while they are the same as these.
        if getattr(shell.displayhook, name, None) is shown:
            setattr(shell.displayhook, name, "")
            for namespace in namespaces:
                if namespace.get(name) is shown:
                    namespace[name] = ""
    if getattr(getattr(shell, "last_execution_result", None), "result", None) is shown:
        shell.last_execution_result = None
