"""Apply the settings of a program on a worker while a task of it runs.

Some settings are a thread's own in Python, such as numpy's `errstate`: they are set in the task's thread. The rest is
the process's: see `process.py`.
"""

from __future__ import annotations

import decimal
import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from skjob.engine.fidelity.settings.process import GATE, CannotApply
from skjob.engine.fidelity.settings.values import NUMPY_ERRORS, ProgramSettings, process_token


@contextmanager
def applied(settings: ProgramSettings) -> Iterator[None]:
    """Apply these settings within the block, in this thread and its process.

    What the block itself changes of a thread's settings is undone at its end too.

    Raises
    ------
    CannotApply
        A worker cannot have one of them.
    """
    with ExitStack() as stack:
        if settings.taken_in != process_token():
            stack.enter_context(GATE.within(settings.process, joins=settings.joins))
        try:
            _enter_thread(settings, stack)
        except Exception as error:
            raise CannotApply(f"a worker cannot have a setting of the program: {error}") from None
        yield


def _enter_thread(settings: ProgramSettings, stack: ExitStack) -> None:
    numpy: Any = sys.modules.get("numpy")
    if settings.numpy_errors or settings.numpy_printing:
        numpy = numpy or importlib.import_module("numpy")
    if numpy is not None:
        stack.enter_context(numpy.errstate(**dict(settings.numpy_errors or NUMPY_ERRORS)))
    if settings.numpy_printing:
        stack.enter_context(numpy.printoptions(**dict(settings.numpy_printing)))
    if settings.decimals is not None:
        stack.enter_context(decimal.localcontext(settings.decimals.make()))
    if settings.sklearn:
        sklearn: Any = importlib.import_module("sklearn")
        stack.enter_context(sklearn.config_context(**dict(settings.sklearn)))
