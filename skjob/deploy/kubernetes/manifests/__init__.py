"""Kubernetes objects of a run, as plain dicts."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
"""An object of the Kubernetes API, in the API's own spelling."""
