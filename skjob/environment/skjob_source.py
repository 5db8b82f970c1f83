"""Pack skjob's own source for scheduler and workers.

It travels with each run, in the run's ConfigMap, so that both ends always have the same skjob, whatever the image is.
"""

from __future__ import annotations

import io
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable

MAX_SOURCE_BYTES = 700_000
"""A ConfigMap holds one mebibyte, of which base64 takes a quarter."""

NOT_FOR_PODS = (
    "skjob/cli",
    "skjob/deploy/dashboard.py",
    "skjob/deploy/kubernetes/doctor.py",
    "skjob/deploy/kubernetes/operator/install.py",
    "skjob/interactive",
    "skjob/report",
    "skjob/run/history",
    "skjob/run/live",
)
"""Packages and modules that only the user's machine needs; nothing else imports them."""


def skjob_archive() -> bytes:
    """Return the package as a zip file that Python can import from; the same bytes for the same source."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, resources.files("skjob"), "skjob")
    content = buffer.getvalue()
    assert len(content) < MAX_SOURCE_BYTES, "skjob has outgrown a ConfigMap"  # noqa: S101
    return content


def _add(archive: zipfile.ZipFile, folder: Traversable, name: str) -> None:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        path = f"{name}/{item.name}"
        if path in NOT_FOR_PODS:
            continue
        if item.is_dir() and item.name != "__pycache__":
            _add(archive, item, path)
        elif item.name.endswith(".py"):
            archive.writestr(zipfile.ZipInfo(path), item.read_bytes(), zipfile.ZIP_DEFLATED)
