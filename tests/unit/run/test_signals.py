"""A signal that ends a run is acted on, also where Python drops what its handler raises."""

import gc
import signal
from collections.abc import Iterator

import pytest

from skjob.run.signals import Signals, Stopped


class Interrupted:
    """Gets a signal while it is finalized: Python only reports what is raised there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGHUP)


@pytest.fixture
def hangup() -> Iterator[None]:
    """Let SIGHUP have its effect, also in tests that `nohup` has started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_comes_in_a_finalizer_is_raised_at_the_next_check(hangup: None) -> None:
    with Signals() as signals:
        Interrupted()
        gc.collect()
        with pytest.raises(Stopped) as stopped:
            signals.check()
        assert stopped.value.number == signal.SIGHUP
        signals.note_only()
        signals.check()


def test_a_check_without_a_signal_raises_nothing() -> None:
    with Signals() as signals:
        signals.check()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signals.note_only()
        signal.raise_signal(signal.SIGTERM)
        signals.check()
        assert signals.hurried
