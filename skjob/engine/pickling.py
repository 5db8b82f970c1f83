"""Pickles that hold the user's own code by value, which is then known by its file wherever it runs."""

from __future__ import annotations

import io
from types import CodeType
from typing import Any

import cloudpickle

NO_FILE = "<dynamic-code>"
"""What cloudpickle may write in the place of a file's name."""


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with the name of the file that code comes from.

    Tracebacks show it, warnings are given for it, and the client finds the line of source by it.

    GONE WHEN the `co_filename` of what `cloudpickle.loads(cloudpickle.dumps(lambda: 0))` returns is that of the lambda
    again: cloudpickle 3.1.3 writes `NO_FILE` instead (https://github.com/cloudpipe/cloudpickle/pull/560).
    """

    def reducer_override(self, obj: Any) -> Any:
        """What becomes of code; cloudpickle knows how to reduce everything else."""
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        make, parts = self.dispatch_table[CodeType](obj)
        return make, tuple(obj.co_filename if isinstance(part, str) and part == NO_FILE else part for part in parts)


def dumps(value: Any) -> bytes:
    """`value` as bytes that `pickle.loads` reads.

    Raises whatever pickling it raises.
    """
    buffer = io.BytesIO()
    CodePickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()
