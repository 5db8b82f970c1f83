"""Expand paths as people write them: `~` is one's own home, `~anna` that of another user."""

from __future__ import annotations

from pathlib import Path

from skjob.errors import ConfigError


def expand_user(path: str | Path) -> Path:
    """Return the path with the home folder instead of `~`.

    Raises:
        ConfigError: there is no such user, or no home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0].removeprefix("~")
        reason = f"there is no user `{user}` on this machine" if user else "the home folder of this user is not known"
        raise ConfigError(f"`{path}` is not a path: {reason}", "write the whole path") from error
