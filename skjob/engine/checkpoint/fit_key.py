"""Build the key of a fit. Fits with the same key are the same fit, and run only once.

scikit-learn's searches and cross-validations all give joblib the same two private functions (1.6 to 1.9). The key
contains all of their arguments by content, except those that only concern progress, and the versions and local code
that these reach; arguments that a later scikit-learn adds are included too. The data that all fits of a search share
has a digest of its own, which names the group of their entries in the store.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skjob.engine.checkpoint.hashing import Hasher
from skjob.engine.checkpoint.randomness import unseeded
from skjob.engine.checkpoint.walk import Digest, Unidentifiable, asks_for_jobs
from skjob.engine.joblib_calls import FIT_FUNCTIONS, signature
from skjob.engine.transfer.code_origin import Origins
from skjob.utils.versions import versions_here

__all__ = ["FitIdentity", "FitKeyBuilder", "Unidentifiable"]

KEY_VERSION = 2
"""Key format version; bump it to invalidate every stored fit.

Version 1 did not include environment variables and settings, so fits stored with it may be wrong.
"""

MODULE = "sklearn.model_selection._validation"
DATA_ARGUMENTS = ("X", "y")
PROGRESS_ARGUMENTS = frozenset(
    {"verbose", "split_progress", "candidate_progress", "caller", "callback_ctx", "return_parameters",
     "return_estimator"}
)  # fmt: skip
"""Arguments that do not change the result. A fit that returns its estimator is not stored at all."""

DISPLAY_SETTINGS = frozenset({"print_changed_only", "display"})
"""Settings of scikit-learn that only change how an estimator is displayed."""


@dataclass(frozen=True)
class FitIdentity:
    """The key of a fit: `data` is the digest of X and y, `fit` that of everything, both hexadecimal.

    `seeded` is False if a random_state that matters is None: such a fit gives another result when it is repeated.
    """

    data: str
    fit: str
    seeded: bool


class FitKeyBuilder:
    """Builds the keys of the fits of one Parallel call, in which shared objects do not change. Not thread-safe.

    Build a key before the fit runs: a fitted estimator is another object.

    Parameters
    ----------
    root : path or None
        The folder of the user's script; modules from there are local, known by their source.
    array_key : callable
        The content key of a large array or frame.
    versions : mapping
        Versions of distributions where the fits run, by name. Others are taken from this process.
    settings : tuple
        Settings of the program's process that may change a result.
    jobs : tuple
        What plain Python's number of jobs inside the fits depends on. Only fits that ask for jobs use it.
    shares_memory : bool, default=True
        Whether plain Python runs the fits in the program's process. Otherwise changes that local code makes are lost,
        and such fits are not reused where they count.
    """

    def __init__(
        self,
        root: Path | None,
        array_key: Callable[[Any], str],
        versions: Mapping[str, str],
        settings: tuple[Any, ...] = (),
        jobs: tuple[Any, ...] = (),
        *,
        shares_memory: bool = True,
    ) -> None:
        origins = Origins(root, versions)
        self._origins = origins
        self._contents = Hasher(origins, array_key)
        self._base = (
            ["skjob", KEY_VERSION, sys.version_info[:2]]
            + [origins.version(package) for package in ("sklearn", "numpy", "scipy")]
            + [settings]
        )
        self._jobs = jobs
        self._shares_memory = shares_memory
        # All fits of a call have the same scorer, data and settings: the very same objects, kept alive for their id.
        self._shared: dict[str, tuple[Any, Digest]] = {}

    def versions(self) -> dict[str, str]:
        """Return the versions of all distributions that the fits so far have reached, by name."""
        return {**versions_here(), **self._origins.distributions}

    def identify(self, item: tuple[Any, Any, Any]) -> FitIdentity | None:
        """Return the key of a call `(function, args, kwargs)`; None if it is not a fit that can be stored.

        Raises
        ------
        Unidentifiable
            One of its arguments, or code they reach, cannot be identified by content.
        """
        function, args, kwargs = item
        inner = getattr(function, "function", function)
        if getattr(inner, "__module__", None) != MODULE or getattr(inner, "__name__", None) not in FIT_FUNCTIONS:
            return None
        bound = signature(inner).bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        if arguments.get("return_estimator"):
            return None
        data = [self._of_shared(name, arguments.pop(name, None)) for name in DATA_ARGUMENTS]
        config = getattr(function, "config", None) or {}
        parts = [
            self._contents.digest((self._base, inner.__name__)),
            *data,
            self._of_shared("config", config, {name: config[name] for name in config if name not in DISPLAY_SETTINGS}),
            self._of_warnings(getattr(function, "warning_filters", None) or []),
        ]
        estimator, parameters = arguments.pop("estimator"), arguments.pop("parameters", None) or {}
        named = {"estimator": self._contents.digest(estimator)}
        named["parameters"] = self._contents.digest([(name, parameters[name]) for name in sorted(parameters)])
        for name, value in arguments.items():
            if name in ("train", "test"):
                named[name] = self._contents.digest(value)
            elif name not in PROGRESS_ARGUMENTS:
                named[name] = self._of_shared(name, value)
        parts += [self._contents.digest(sorted((name, digest.value) for name, digest in named.items()))]
        asks = any(asks_for_jobs(name, value) for name, value in parameters.items())
        if asks or any(digest.asks_for_jobs for digest in (*parts, *named.values())):
            parts += [self._contents.digest(self._jobs)]
        if not self._shares_memory and any(digest.local for digest in (*parts, *named.values())):
            parts += [self._contents.digest("in processes")]
        seeded = all(digest.seeded for digest in (*parts, *named.values()))
        seeded = seeded and not unseeded(estimator, parameters) and not unseeded(arguments.get("scorer"))
        return FitIdentity(_joined(data), _joined(parts), seeded)

    def _of_shared(self, name: str, value: Any, content: Any = None) -> Digest:
        """Return the digest of an object that all fits of a call share; `content` is the part of it that counts."""
        known = self._shared.get(name)
        if known is None or known[0] is not value:
            known = self._shared[name] = value, self._contents.digest(value if content is None else content)
        return known[1]

    def _of_warnings(self, filters: Any) -> Digest:
        """Return the digest of filters of warnings, which matter if one raises errors: a fit may then fail."""
        if not any(each[0] == "error" for each in filters):
            return self._contents.digest(None)
        known = self._shared.get("warnings")
        if known is None or known[0] != list(filters):
            known = self._shared["warnings"] = list(filters), self._contents.digest(list(filters))
        return known[1]


def _joined(digests: list[Digest]) -> str:
    return hashlib.blake2b(b"".join(digest.value for digest in digests), digest_size=20).hexdigest()
