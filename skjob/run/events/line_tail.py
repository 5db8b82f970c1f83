"""Read the lines of a file that another process appends to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class LineTail:
    """Yields each line of a file once. A file that is missing or unreadable has none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def read_new(self) -> Iterator[bytes]:
        """Yield lines added since the last call. An incomplete last line is left for the next call."""
        try:
            with self._path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size  # stop here: a program may write faster than this reads
                file.seek(self._read)
                while self._read < end:
                    line = file.readline()
                    if not line.endswith(b"\n"):
                        return
                    self._read += len(line)
                    yield line
        except OSError:
            return
