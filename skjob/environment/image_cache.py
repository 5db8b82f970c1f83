"""Remember on this machine which distributions images contain, so that a run knows what they lack before it starts.

The cache is keyed by the image's name. A name may come to mean another image: each pod compares for itself before it
works, and a wrong entry is then deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

_PLAIN_PYTHON = re.compile(r"python:3\.\d+-slim")
"""Python's own images, which contain only pip and the like."""


def cache_folder() -> Path:
    """Return the folder of skjob's caches: `$XDG_CACHE_HOME/skjob`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skjob"


def known_contents(image: str) -> dict[str, str] | None:
    """Return versions by normalized name; None if this machine has not seen the image yet."""
    if _PLAIN_PYTHON.fullmatch(image):
        return {}
    with suppress(OSError, ValueError):
        cached = json.loads(_file(image).read_text(encoding="utf-8"))
        if cached["image"] == image:
            return dict(cached["distributions"])
    return None


def remember_image(image: str, distributions: dict[str, str]) -> None:
    """Store what the image contains, if the cache can be written."""
    file = _file(image)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as part:
            json.dump({"image": image, "distributions": distributions}, part)
        Path(part.name).replace(file)


def forget_image(image: str) -> None:
    """Delete what is known about the image."""
    with suppress(OSError):
        _file(image).unlink()


def _file(image: str) -> Path:
    return cache_folder() / "images" / f"{hashlib.sha256(image.encode()).hexdigest()[:20]}.json"
