"""The error of a training that cannot continue, and its messages.

It is made on the scheduler, pickled, and raised in the program that started the training, so it holds plain text only.
"""

from __future__ import annotations

from skjob.errors import lines_in_a_notebook

RETRY_HINT = "run it again: this training has ended, and the cluster is free"


class TrainingLost(RuntimeError):
    """A distributed training has ended because one of its workers was lost or failed."""

    def _render_traceback_(self) -> list[str]:
        return lines_in_a_notebook(self)


def worker_lost_message(library: str, worker: str) -> str:
    """Return the message for a worker that died or left."""
    return f"`{library}` cannot continue: worker `{worker}` was lost during the training; {RETRY_HINT}"


def peer_failed_message(library: str, worker: str) -> str:
    """Return the message for a training whose part on `worker` failed with an error of its own."""
    return f"`{library}` cannot continue: its part on worker `{worker}` failed; {RETRY_HINT}"
