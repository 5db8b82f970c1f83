"""The error of a training that can't go on, and how it reads.

It is made on the scheduler, pickled, and raised in the program that started the training: of plain text only.
"""

from __future__ import annotations

HINT = "run it again: nothing of this training is left, and the cluster is free for it"


class TrainingLost(RuntimeError):
    """A distributed training has ended because a worker that took part in it has gone or failed."""


def worker_gone(library: str, worker: str) -> str:
    """The message for a worker that died or left."""
    return f"`{library}` can't go on: worker `{worker}` went away while it took part in the training; {HINT}"


def peer_failed(library: str, worker: str) -> str:
    """The message for a training of which one part has failed, with an error of its own, on `worker`."""
    return f"`{library}` can't go on: its part on worker `{worker}` has failed; {HINT}"
