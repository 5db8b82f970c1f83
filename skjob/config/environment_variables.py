"""Environment variables that a user sets for a program and its workers: `set-env`, and `secret-env` for values that
nobody may see. Pure: nothing here reads a process's environment.

A variable is refused where it could not do what it says: skjob, Dask, Kubernetes, Python or the system sets it in
workers, or it decides how many threads compute, which changes the last digits of results. Whatever is allowed here
travels with tasks too (`skjob.engine.fidelity.settings.variables.is_workers_own`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from skjob.errors import ConfigError
from skjob.utils.text import listed

SETTINGS = ("set_env", "secret_env")

GPUS_VARIABLE = "NVIDIA_VISIBLE_DEVICES"
"""By this variable NVIDIA's runtime may give a container GPUs that it has not requested."""

OWN_NAMES = frozenset(
    {
        "PATH", "HOME", "TMPDIR", "TEMP", "TMP", "PWD", "OLDPWD", "SHLVL", "_", "HOSTNAME", "KUBECONFIG",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "ARROW_DEFAULT_MEMORY_POOL", GPUS_VARIABLE,
    }
)  # fmt: skip
OWN_PREFIXES = ("SKJOB_", "DASK_", "KUBERNETES_", "MALLOC_", "PYTHON", "LD_", "DYLD_")
"""Python reads its own before it runs anything: some stop a pod from starting, and others change what a program does in
ways that its process and its workers would not share."""

THREAD_NAMES = frozenset({"LOKY_MAX_CPU_COUNT", "VECLIB_MAXIMUM_THREADS"})
THREAD_PREFIXES = ("OMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_")
THREAD_SUFFIX = "_NUM_THREADS"

CREDENTIAL_FILES = ("GOOGLE_APPLICATION_CREDENTIALS",)
"""Variables that name a file with credentials. The file travels, and a worker's variable names its copy."""

MIN_SECRET_LENGTH = 4
"""Characters. What is shorter cannot be masked in a log: it is in every other word."""

MAX_ORDINARY_BYTES = 8 * 2**10
"""Of all names and values. They are part of the DaskCluster, which the operator has to write down (32 KiB in all)."""

MAX_SECRET_BYTES = 64 * 2**10
"""Of one value. Linux takes 128 KiB, a Secret 1 MiB."""

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CAPITALS = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class Variables:
    """The variables that a user sets for a run, by name: ordinary ones, which may be shown, and secret ones."""

    ordinary: Mapping[str, str] = field(default_factory=dict)
    secret: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def values(self) -> dict[str, str]:
        """All of them."""
        return {**self.ordinary, **self.secret}

    def over(self, other: Variables) -> Variables:
        """Return these, and those of `other` that have other names."""
        ours = self.values
        ordinary = {name: value for name, value in other.ordinary.items() if name not in ours}
        secret = {name: value for name, value in other.secret.items() if name not in ours}
        return Variables({**ordinary, **self.ordinary}, {**secret, **self.secret})

    def in_pods(self) -> Variables:
        """Return those that a pod starts with: a file that a variable names is not there yet."""
        return Variables(*(_without_files(part) for part in (self.ordinary, self.secret)))


NO_VARIABLES = Variables()


def _without_files(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in CREDENTIAL_FILES}


def can_be_set(name: str) -> bool:
    """Return whether users can set a variable of this name."""
    return VARIABLE_NAME.fullmatch(name) is not None and not _is_own(name) and not is_of_threads(name)


def _is_own(name: str) -> bool:
    return name in OWN_NAMES or name.startswith(OWN_PREFIXES)


def is_of_threads(name: str) -> bool:
    """Return whether a variable decides how many threads a library has."""
    return name in THREAD_NAMES or name.startswith(THREAD_PREFIXES) or name.endswith(THREAD_SUFFIX)


def parse_set_env(raw: Any) -> tuple[dict[str, str | None], list[str]]:
    """Return variables as a user gives them, and all that is wrong with them.

    `raw` is a mapping, or has words `NAME=VALUE` and `NAME`, in a list or as a shell would split them. The value of a
    bare name is None: it is the one in the user's environment. A problem shows no value.
    """
    pairs, problems = _pairs(raw)
    values: dict[str, str | None] = {}
    wrong = []
    for name, value in pairs:
        if value is None or isinstance(value, str):
            values[name] = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = str(value)
        else:
            values[name] = None
            wrong.append(name)
    if wrong:
        problems.append(f"needs a text for {_listed(wrong)}")
    return values, problems + _problems(name for name, _ in pairs)


def parse_secret_env(raw: Any) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of secret variables as a user gives them, and all that is wrong with them."""
    pairs, problems = _pairs(list(raw) if isinstance(raw, Mapping) else raw)
    names = [name for name, _ in pairs]
    if given := [name for name, value in pairs if value is not None]:
        named = _listed(map(_not_a_value, given))
        problems.append(f"takes a name alone, and the value from your environment: leave out what follows {named}")
    return tuple(dict.fromkeys(names)), problems + _problems(names, _not_a_value)


def _not_a_value(name: str) -> str:
    """Return a name of a secret for a message, unless it may be the value: `--secret-env $TOKEN` is easily typed."""
    return name if _CAPITALS.fullmatch(name) else "****"


def _pairs(raw: Any) -> tuple[list[tuple[str, Any]], list[str]]:
    if isinstance(raw, Mapping):
        return [(str(name), value) for name, value in raw.items()], []
    if isinstance(raw, str):
        try:
            raw = shlex.split(raw)
        except ValueError:
            return [], ["has a quotation that does not end"]
    listed = list(raw) if isinstance(raw, Iterable) else [raw]
    if not all(isinstance(word, str) for word in listed):
        return [], ["must be a list of variables"]
    words = [word.partition("=") for word in listed]
    return [(name, value if has_value else None) for name, has_value, value in words], []


def _problems(names: Iterable[str], shown: Callable[[str], str] = str) -> list[str]:
    """Return all that is wrong with names that were given together, a line for each kind."""
    given = list(names)
    unique = list(dict.fromkeys(given))
    invalid = [name for name in unique if not VARIABLE_NAME.fullmatch(name)]
    own = [name for name in unique if _is_own(name)]
    threads = [name for name in unique if is_of_threads(name) and name not in own]
    lines = []
    if invalid:
        lines.append(f"needs names of letters, digits and `_`, no digit first, not {_listed(map(shown, invalid))}")
    if twice := [name for name in unique if given.count(name) > 1]:
        lines.append(f"has {_listed(twice)} twice")
    if own:
        lines.append(f"cannot set {_listed(own)}: workers have their own, from skjob, Kubernetes, Python or the system")
    if threads:
        lines.append(
            f"cannot set {_listed(threads)}: threads change the last digits of results, and skjob sets them alike on"
            " all workers, from `worker-cpu`"
        )
    return lines


def resolve_variables(
    set_env: Mapping[str, str | None], secret_env: Iterable[str], environ: Mapping[str, str], called: Mapping[str, str]
) -> Variables:
    """Return the variables with their values, those of bare names from a user's environment.

    `called` says how each of `SETTINGS` is called where it is set, for messages.

    Raises:
        ConfigError: with every variable that is not there, or cannot be passed on.
    """
    ordinary = {name: environ.get(name) if value is None else value for name, value in set_env.items()}
    secret = {name: environ.get(name) for name in secret_env}
    problems, hints = _missing(ordinary, secret, called)
    there = {name: value for name, value in ordinary.items() if value is not None}
    hidden = {name: value for name, value in secret.items() if value is not None}
    for setting, values in (("set_env", there), ("secret_env", hidden)):
        if unfit := [name for name, value in values.items() if not _is_text(value)]:
            problems.append(f"{called[setting]} cannot pass on {_listed(unfit)}: the value is no text in UTF-8")
    if short := [name for name, value in hidden.items() if len(value) < MIN_SECRET_LENGTH]:
        problems.append(
            f"{called['secret_env']} cannot hide {_listed(short)}:"
            f" the value has fewer than {MIN_SECRET_LENGTH} characters"
        )
        hints.append("a value that is no secret goes to `set-env`")
    if long := [name for name, value in hidden.items() if _size(value) > MAX_SECRET_BYTES]:
        problems.append(
            f"{called['secret_env']} cannot pass on {_listed(long)}: the value has more than {MAX_SECRET_BYTES} bytes"
        )
    # A `$` stands twice in a pod's spec.
    size = sum(_size(name) + _size(value) + value.count("$") for name, value in there.items())
    if size > MAX_ORDINARY_BYTES:
        problems.append(f"{called['set_env']} has {size} bytes of names and values, and may have {MAX_ORDINARY_BYTES}")
        hints.append("send large values in a file, or as `secret-env`")
    if problems:
        raise ConfigError.collect(problems, "; ".join(dict.fromkeys(hints)))
    return Variables(there, hidden)


def _missing(
    ordinary: Mapping[str, str | None], secret: Mapping[str, str | None], called: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return problems and hints for variables that are not in the user's environment."""
    problems, hints = [], []
    if names := [name for name, value in ordinary.items() if value is None]:
        problems.append(f"{called['set_env']} finds no {_listed(names)} in your environment")
        hints.append("export it, or give its value")
    if names := [_not_a_value(name) for name, value in secret.items() if value is None]:
        problems.append(f"{called['secret_env']} finds no {_listed(names)} in your environment")
        hints.append("export it, and give its name alone, without `$`")
    return problems, hints


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes that Python could not read as text
        return False
    return "\0" not in value


def _size(value: str) -> int:
    return len(value.encode(errors="replace"))


def _listed(names: Iterable[str]) -> str:
    return listed(f"`{name}`" for name in names)
