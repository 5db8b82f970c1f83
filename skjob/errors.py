"""Every error a user can meet: what happened, what to do about it, and its exit status.

    SkjobError
    ├── ConfigError        120  the request is wrong: an option, a setting, a script, a job file
    │   └── EnvironmentFault 120  what the program needs can't be had for the workers
    ├── AccessError        121  no way to a Kubernetes API: kubeconfig, context, network, credentials
    ├── ForbiddenError     122  the API answers, and forbids what a run needs
    ├── OperatorError      123  the Dask operator is absent or does not act
    ├── StartError         124  the cluster was accepted and can't run: image, capacity, deadline
    ├── DeadlineError      125  `--max-time` is over
    ├── ClusterLost        126  the scheduler went away while the program ran
    └── CleanupFailed      127  something of the run is left behind (also: a fault of skjob's own)

A script's own exit status passes through unchanged; these eight are the only ones skjob adds, beside 129, 130 and 143
for SIGHUP, SIGINT and SIGTERM. A message is one lower-case line that names the object in backticks; `hint` is what to
do.
"""

from __future__ import annotations

from typing import ClassVar

INTERNAL_FAULT = 127
INTERRUPTED = 130
TERMINATED = 143


def in_a_line(error: BaseException) -> str:
    """An error's words in one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


class SkjobError(Exception):
    """Something that a user can mend. `message` says what and where, `hint` what to do."""

    exit_code: ClassVar[int] = INTERNAL_FAULT

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ConfigError(SkjobError):
    """The request is wrong. Nothing was started."""

    exit_code = 120

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.problems = [message]

    @classmethod
    def collect(cls, problems: list[str], hint: str = "") -> ConfigError:
        """One error for all problems at once, in the order they were found."""
        if len(problems) == 1:
            return cls(problems[0], hint)
        lines = "".join(f"\n  - {problem}" for problem in problems)
        error = cls(f"{len(problems)} problems:{lines}", hint)
        error.problems = problems
        return error


class EnvironmentFault(ConfigError):
    """What the program needs can't be had for the workers. Nothing was started."""


class AccessError(SkjobError):
    """There is no way to a Kubernetes API."""

    exit_code = 121


class ForbiddenError(SkjobError):
    """The API answers and forbids what a run needs."""

    exit_code = 122


class OperatorError(SkjobError):
    """The Dask operator is absent or does not act."""

    exit_code = 123


class StartError(SkjobError):
    """The cluster was accepted by the API and can't run."""

    exit_code = 124


class DeadlineError(SkjobError):
    """`--max-time` is over."""

    exit_code = 125


class ClusterLost(SkjobError):
    """The scheduler went away while the program ran."""

    exit_code = 126


class CleanupFailed(SkjobError):
    """Something of the run is left behind; the hint is the command that removes it."""

    exit_code = 127
