"""A run without a cluster, for tests of the live view: `python live_run.py EVENTS PROGRAM [ARGUMENT ...]`.

The program inherits the terminal, as in a real run. The reporter gets the events in the file EVENTS as they are added,
as if the engine reported them at that time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from skjob.cli.reporter import PROGRAM_STEP, Reporter
from skjob.deploy.base import WorkerCounts
from skjob.deploy.kubernetes.costs.prices import Cost
from skjob.engine.events import CallFinished, CallStarted, FitFinished, TasksFinished, from_line
from skjob.run.record import Record, RunOutcome


def main() -> int:
    """Run the program with the live view."""
    events, program = Path(sys.argv[1]), sys.argv[2:]
    Path("pid").write_text(f"{os.getpid()}\n")
    reporter = Reporter(json=False, verbose=False)
    reporter.notify("running on this machine")
    reporter.workers(WorkerCounts(4, 2, 2))
    reporter.cost(Cost(0.04, 1.0, datetime.now(UTC), "EUR"), 2.0)
    began, ended = time.time(), threading.Event()
    code = 0
    reporter.step_started(PROGRAM_STEP)
    follower = threading.Thread(target=_follow, args=(events, reporter, ended))
    follower.start()
    try:
        code = subprocess.run([sys.executable, *program]).returncode
    finally:
        ended.set()
        follower.join()
        reporter.step_done(PROGRAM_STEP, time.time() - began)
    status = "failed" if code else "succeeded"
    record = Record("20261130-120000-abcdef", program[0], [], "", {}, outcome=RunOutcome(status, code))
    record.seconds, record.cost = time.time() - began, {"most": 2.0, "amount": 0.05, "currency": "EUR"}
    reporter.ended(record)
    return code


def _follow(file: Path, reporter: Reporter, ended: threading.Event) -> None:
    with file.open("rb") as lines:
        while True:
            last = ended.is_set()
            for line in lines:
                event = from_line(line)
                now = time.time()
                if isinstance(event, CallStarted | CallFinished):
                    event = replace(event, at=now)
                elif isinstance(event, FitFinished | TasksFinished):
                    event = replace(event, started=now - event.seconds)
                if event is not None:
                    reporter.event(event)
            if last:
                return
            ended.wait(0.02)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)  # the program gets the signal as well, and ends
    sys.exit(main())
