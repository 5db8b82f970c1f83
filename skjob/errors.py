"""Every error a user can meet: what happened, what to do about it, and its exit status.

    SkjobError
    ├── ConfigError        120  the request is wrong: an option, a setting, a namespace, a script, a job file
    │   └── EnvironmentFault 120  what the program needs cannot be installed on the workers
    ├── AccessError        121  no Kubernetes API can be used: kubeconfig, context, network, credentials
    │   ├── Unanswered     121  it cannot be reached, or is overloaded: a retry can help
    │   └── Unauthorized   121  there are no credentials, or they are not accepted
    ├── ForbiddenError     122  the API answers, and forbids what a run needs
    ├── OperatorError      123  the Dask operator is absent or does not act
    ├── StartError         124  the cluster was accepted and cannot run: image, capacity, deadline
    ├── DeadlineError      125  `--max-time` is over, or `--max-cost` nearly spent
    ├── ClusterLost        126  the scheduler went away while the program ran
    └── CleanupFailed      127  part of the run is left behind (also: an internal error of skjob)

A script's own exit status passes through unchanged; these eight are the only ones skjob adds, beside 129, 130 and 143
for SIGHUP, SIGINT and SIGTERM. A message is one lower-case line that names the object in backticks; `hint` is what to
do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from types import TracebackType
from typing import Any, ClassVar

INTERNAL_FAULT = 127
INTERRUPTED = 130


def in_a_line(error: BaseException) -> str:
    """Return an error's message in one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: object) -> str:
    """Return the first line of an error's message, or the name of its class if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


_IN_ADDRESS = r"[^\s/`'\"]"
_PASSWORD = re.compile(rf"(?<=://)([^\s/`'\":@]*):{_IN_ADDRESS}*@")
_TOKEN = re.compile(r"(?<=://)[^\s/`'\":@]{16,}@")
_SIGNATURE = re.compile(
    r"([?&](?:[^\s=&`'\"]*(?:signature|credential|token|secret|password)|sig|key)=)[^\s&`'\"]+", re.I
)


_hidden: list[str] = []
"""Secret values in each form in which they may appear, the longest first."""

_MIN_HIDDEN_LINE = 8
"""Characters of a line of a secret that is hidden by itself, as in a log: shorter ones are in other texts too."""


def hide(secrets: Iterable[str]) -> None:
    """From now on, put `****` in the place of these values in what this process shows and keeps."""
    import base64
    import json
    from urllib.parse import quote, quote_plus

    forms = set(_hidden)
    for secret in secrets:
        lines = [line.strip() for line in secret.splitlines()]
        for text in (secret, secret.strip(), *(line for line in lines if len(line) >= _MIN_HIDDEN_LINE)):
            escaped = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
            encoded = (quote(text, safe=""), quote_plus(text), base64.b64encode(text.encode()).decode())
            forms |= {text, *escaped, *encoded}
    _hidden[:] = sorted(filter(None, forms), key=len, reverse=True)


def without_secrets(text: str) -> str:
    """Return the text with `****` instead of each value that is hidden."""
    for form in _hidden:
        text = text.replace(form, "****")
    return text


def without_credentials(text: str) -> str:
    """Return the text with `****` instead of hidden values, and of the secrets in addresses: passwords, tokens,
    signatures of links."""
    text = without_secrets(text)
    if "://" not in text:
        return text
    return _SIGNATURE.sub(r"\1****", _TOKEN.sub("****@", _PASSWORD.sub(r"\1:****@", text)))


def data_without_credentials(data: Any) -> Any:
    """Return plain data with the secrets in each string masked. Encode it afterwards: a mask in JSON eats quotes."""
    if isinstance(data, str):
        return without_credentials(data)
    if isinstance(data, Mapping):
        return {name: data_without_credentials(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [data_without_credentials(each) for each in data]
    return data


def lines_in_a_notebook(error: BaseException) -> list[str]:
    """Return an error of skjob's own as IPython shows it, without the frames of skjob and of what skjob calls.

    For methods `_render_traceback_`, which IPython calls.
    """
    from IPython import get_ipython

    cause, is_hidden = error.__cause__, error.__suppress_context__
    error.__cause__ = None  # what it came from has frames of skjob's too; the message says what matters
    try:
        lines: list[str] = get_ipython().InteractiveTB.structured_traceback(
            type(error), error, frames_of_program(error.__traceback__)
        )
        return lines
    finally:
        error.__cause__, error.__suppress_context__ = cause, is_hidden


def frames_of_program(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback up to the call of skjob's; all of it if skjob is not in it, or nothing else is."""
    kept: list[TracebackType] = []
    each = traceback
    while each is not None and each.tb_frame.f_globals.get("__name__", "").partition(".")[0] != "skjob":
        kept.append(each)
        each = each.tb_next
    while kept and kept[-1].tb_frame.f_globals.get("__name__") == "contextlib":
        kept.pop()
    shown: TracebackType | None = None
    for each in reversed(kept):
        shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return shown or traceback


class SkjobError(Exception):
    """An error that a user can fix. `message` says what and where, `hint` what to do; neither contains credentials.

    `log` has the last lines of output of what failed.
    """

    exit_code: ClassVar[int] = INTERNAL_FAULT

    def __init__(self, message: str, hint: str = "", log: str = "") -> None:
        self.message, self.hint, self.log = (without_credentials(text) for text in (message, hint, log))
        super().__init__(self.message)

    @property
    def quoted_log(self) -> str:
        """The lines of the log, set off from the message."""
        return "".join(f"\n  | {line}" for line in self.log.splitlines())

    def __str__(self) -> str:
        return f"{self.message}{self.quoted_log}" + (f"\nhint: {self.hint}" if self.hint else "")

    def _render_traceback_(self) -> list[str]:
        return lines_in_a_notebook(self)


class ConfigError(SkjobError):
    """The request is wrong. Nothing was started."""

    exit_code = 120

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.problems = [self.message]

    @classmethod
    def collect(cls, problems: list[str], hint: str = "") -> ConfigError:
        """Return one error for all problems, in the order in which they were found."""
        if len(problems) == 1:
            return cls(problems[0], hint)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        error = cls(f"{len(problems)} problems:{lines}", hint)
        error.problems = [without_credentials(problem) for problem in problems]
        return error


class EnvironmentFault(ConfigError):
    """What the program needs cannot be installed on the workers. Nothing was started."""


class AccessError(SkjobError):
    """No Kubernetes API can be used."""

    exit_code = 121


class Unanswered(AccessError):
    """The API cannot be reached, or is overloaded: a retry can help."""


class Unauthorized(AccessError):
    """There are no credentials, or the API does not accept them, or no longer does."""


class ForbiddenError(SkjobError):
    """The API answers and forbids what a run needs."""

    exit_code = 122


class OperatorError(SkjobError):
    """The Dask operator is absent or does not act."""

    exit_code = 123


class StartError(SkjobError):
    """The API accepted the cluster, but it cannot run."""

    exit_code = 124


class DeadlineError(SkjobError):
    """`--max-time` is over, or `--max-cost` nearly spent."""

    exit_code = 125


class ClusterLost(SkjobError):
    """The scheduler went away while the program ran."""

    exit_code = 126


class CleanupFailed(SkjobError):
    """Part of the run is left behind; the hint is the command that removes it."""

    exit_code = 127


def did_you_mean(name: object, known: Iterable[object], display_name: Callable[[str], str] = str) -> str:
    """Return the end of a message about an unknown name: `; did you mean …?` if it is close to a known one, or nothing.

    `display_name` formats the known one.
    """
    names = [str(each) for each in known]
    inner = [each for each in names if each.endswith(f"__{name}")]
    # Swapped letters, or another case, are closer than difflib's close matches.
    letters = sorted(str(name).lower())
    same = [each for each in names if sorted(each.lower()) == letters]
    matches = inner or same or get_close_matches(str(name), names, n=1)
    return f"; did you mean `{display_name(matches[0])}`?" if matches else ""
