"""What images have in them, as far as this machine has seen: so that a run knows, before it starts, what they lack.

Remembered in the user's cache folder by the image's name. A name may come to mean another image; each pod compares for
itself before it works, and what was remembered wrongly is forgotten then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

_BARE = re.compile(r"python:3\.\d+-slim")
"""Python's own images: nothing in them but pip and its kind."""


def cache_folder() -> Path:
    """Where skjob keeps what it could find out again: `$XDG_CACHE_HOME/skjob`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skjob"


def known_contents(image: str) -> dict[str, str] | None:
    """Versions by normalized name; None where this machine has not seen the image yet."""
    if _BARE.fullmatch(image):
        return {}
    with suppress(OSError, ValueError):
        said = json.loads(_file(image).read_text(encoding="utf-8"))
        if said["image"] == image:
            return dict(said["distributions"])
    return None


def remember(image: str, distributions: dict[str, str]) -> None:
    """Keep what the image has. A cache that can't be written is none."""
    file = _file(image)
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as part:
            json.dump({"image": image, "distributions": distributions}, part)
        Path(part.name).replace(file)


def forget(image: str) -> None:
    """What is known of the image is not so."""
    with suppress(OSError):
        _file(image).unlink()


def _file(image: str) -> Path:
    return cache_folder() / "images" / f"{hashlib.sha256(image.encode()).hexdigest()[:20]}.json"
