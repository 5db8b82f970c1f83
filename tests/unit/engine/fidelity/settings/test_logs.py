"""What a task logs: kept in its thread alone, at the program's levels, and handed to the program's loggers."""

import io
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from clocks import DEADLINE

from skjob.engine.fidelity.settings import logs
from skjob.engine.fidelity.settings.logs import LoggedRecord, LogLevels, captured_log, log_again, write_again
from skjob.engine.output import MAX_CHARACTERS, Output

INFO = LogLevels(root=logging.INFO)


class Kept(logging.Handler):
    """Keeps records, and what a formatter makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return [formatter.format(record) for record in self.records]


@pytest.fixture
def root() -> Iterator[Kept]:
    """A handler of the root logger, at whose level nothing is left out."""
    handler, level = Kept(), logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(1)
    yield handler
    logging.root.setLevel(level)
    logging.root.removeHandler(handler)


def _texts(records: tuple[LoggedRecord, ...]) -> list[str]:
    return [record.text for record in records]


def test_records_come_back_as_they_were(root: Kept) -> None:
    log = logging.getLogger("train.fits")
    with captured_log(INFO) as captured:
        log.info("fitting %d rows with %s", 75, "C=1")
        try:
            int("bad")
        except ValueError:
            log.exception("failed", extra={"fold": 3, "kind": ("a", 1.5)})
    assert root.records == []
    caller = threading.Thread(name="the caller")
    for record in captured.result:
        log_again(record, lambda text: f"{text}!", caller)
    assert root.lines[0] == "INFO train.fits fitting 75 rows with C=1"
    assert root.lines[1].startswith("ERROR train.fits failed\nTraceback (most recent call last):\n")
    assert root.lines[1].endswith("\nValueError: invalid literal for int() with base 10: 'bad'!")
    first, second = root.records
    assert (second.fold, second.kind) == (3, ("a", 1.5))  # type: ignore[attr-defined]
    assert (first.funcName, first.filename) == ("test_records_come_back_as_they_were", "test_logs.py")
    assert first.threadName == "the caller"


def test_records_keep_their_place_among_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    stdout, stderr = Output(), Output()
    with captured_log(INFO, stdout, stderr) as captured:
        stdout.add("one\n")
        logging.getLogger("train").info("two")
        logging.getLogger("train").info("three")
        stderr.add("beside\n")
        stdout.add("four\n")
        logging.getLogger("train").info("five")
    write_again(stdout.text, stderr.text, captured.result, lambda logged: print(logged.text))
    assert capsys.readouterr() == ("one\ntwo\nthree\nfour\nfive\n", "beside\n")


def test_all_that_is_printed_is_written_beyond_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    stdout, stderr = Output(), Output()
    with captured_log(INFO, stdout, stderr) as captured:
        stdout.add("x" * MAX_CHARACTERS * 2)
        logging.getLogger("train").info("two")
    write_again(stdout.text, stderr.text, captured.result, lambda logged: print(logged.text))
    shown = capsys.readouterr().out
    assert shown.startswith("x" * MAX_CHARACTERS)
    assert shown.endswith(f"… {MAX_CHARACTERS} more characters were printed\ntwo\n")


class Counting(io.StringIO):
    """A stream of the program's own that counts what is written to it."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def test_a_stream_of_the_programs_own_gets_the_writes_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = Output(), Output()
    with captured_log(INFO, stdout, stderr) as captured:
        for text in ("a", "b", "\n"):
            stdout.add(text)
        logging.getLogger("train").info("two")
        stdout.add("c")
    stream = Counting()
    monkeypatch.setattr(sys, "stdout", stream)
    cuts = tuple(stdout.cuts), tuple(stderr.cuts)
    write_again(stdout.text, stderr.text, captured.result, lambda logged: stream.write(logged.text), cuts)
    assert (stream.getvalue(), stream.writes) == ("ab\ntwoc", 5)


def test_the_programs_levels_decide() -> None:
    levels = LogLevels((("a", logging.DEBUG), ("a.quiet", logging.ERROR)), logging.WARNING, disabled=("a.off",))
    with captured_log(levels) as captured:
        for name in ("a", "a.inner.most", "a.quiet", "a.off", "b", None):
            log = logging.getLogger(name)
            for level in (logging.DEBUG, logging.WARNING, logging.ERROR):
                log.log(level, "%s %d", name, level)
    assert _texts(captured.result) == [
        "a 10", "a 30", "a 40", "a.inner.most 10", "a.inner.most 30", "a.inner.most 40", "a.quiet 40",
        "b 30", "b 40", "None 30", "None 40",
    ]  # fmt: skip
    with captured_log(LogLevels(root=1, disabled_to=logging.WARNING)) as captured:
        logging.getLogger("a").warning("no")
        logging.getLogger("a").error("yes")
        assert logging.getLogger("a").getEffectiveLevel() == 1
    assert _texts(captured.result) == ["yes"]


def test_a_level_that_the_task_sets_is_its_own() -> None:
    log = logging.getLogger("of.a.task")
    with captured_log(LogLevels()) as captured:
        log.setLevel(logging.DEBUG)
        log.debug("yes")
    with captured_log(LogLevels()) as next_one:
        log.debug("no")
    assert (_texts(captured.result), _texts(next_one.result), log.level) == (["yes"], [], logging.NOTSET)


def test_a_handler_of_the_task_has_its_records_and_goes_with_it(root: Kept) -> None:
    log, own = logging.getLogger("of.a.task"), Kept()
    with captured_log(INFO) as captured:
        log.addHandler(own)
        log.info("both")
    log_again(captured.result[0])
    assert (own.lines, root.lines) == (["INFO of.a.task both"], ["INFO of.a.task both"])
    assert log.handlers == []


def test_what_the_tasks_handler_has_shown_is_no_last_resort(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("of.a.task")
    log.propagate = False
    with captured_log(INFO) as captured:
        log.addHandler(Kept())
        log.warning("once")
    log_again(captured.result[0])
    assert capsys.readouterr().err == ""


def test_other_threads_and_libraries_go_on_as_before(root: Kept) -> None:
    may_log = threading.Event()

    def log_elsewhere() -> None:
        may_log.wait(DEADLINE)
        logging.getLogger("train").warning("another thread")

    thread = threading.Thread(target=log_elsewhere)
    thread.start()
    with captured_log(LogLevels(root=logging.CRITICAL)) as captured:
        may_log.set()
        thread.join()
        for name in ("dask.array", "tornado.access", "skjob.engine"):
            logging.getLogger(name).warning("own")
    assert captured.result == ()
    assert "WARNING train another thread" in root.lines
    assert "WARNING skjob.engine own" in root.lines


def test_records_are_limited() -> None:
    with captured_log(INFO) as captured:
        for _ in range(20):
            logging.getLogger("much").info("x" * (MAX_CHARACTERS // 10))
        logging.getLogger("much").info("y" * MAX_CHARACTERS)
    *kept, last = captured.result
    assert sum(len(record.text) for record in kept) <= MAX_CHARACTERS
    assert (last.name, last.text) == ("skjob", f"… {21 - len(kept)} more records were logged")


class Unpicklable:
    """Holds what cannot travel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return "<a lock>"


def test_extra_that_cannot_travel_is_text(root: Kept) -> None:
    with captured_log(INFO) as captured:
        logging.getLogger("train").info("x", extra={"held": Unpicklable(), "name_of": "y"})
    log_again(captured.result[0])
    [record] = root.records
    assert (record.held, record.name_of) == ("<a lock>", "y")  # type: ignore[attr-defined]


def test_a_message_that_does_not_fit_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with captured_log(INFO) as captured:
        logging.getLogger("train").info("%d rows", "many")
    assert _texts(captured.result) == ["%d rows"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_filters_of_the_programs_loggers_decide(root: Kept) -> None:
    log = logging.getLogger("filtered")

    def refuse(record: logging.LogRecord) -> bool:
        return "secret" not in record.getMessage()

    with captured_log(INFO) as captured:
        log.info("secret")
        log.info("open")
    log.addFilter(refuse)
    for record in captured.result:
        log_again(record)
    log.removeFilter(refuse)
    assert root.lines == ["INFO filtered open"]


def test_levels_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("skjob_tests.levels").setLevel(logging.DEBUG)
    logging.getLogger("skjob.tests").setLevel(logging.DEBUG)
    found = LogLevels.now()
    assert ("skjob_tests.levels", logging.DEBUG) in found.levels
    assert not any(name.startswith("skjob.") for name, _ in found.levels)
    assert found.root == logging.root.level


def test_own_names_of_a_record_do_not_count_as_extra() -> None:
    record: Any = logging.makeLogRecord({"msg": "x"})
    logging.Formatter("%(message)s %(asctime)s").format(record)
    assert set(vars(record)) <= logs._STANDARD
