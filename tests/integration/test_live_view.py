"""The live view of a run, as the text on a terminal that pyte emulates.

Most runs here have no cluster (live_run.py): their program is a real process on the real terminal, and the engine's
events come from a file.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_states import fits, search
from support.terminal import Terminal

from skjob.engine.events import Event, to_line

LIVE_RUN = Path(__file__).with_name("live_run.py")
HEADING = "skjob  2 of 4 workers "
RUN = "skjob: run the program:"

Start = Callable[..., Terminal]


class LiveRuns:
    """A folder with a program and a file of events, and terminals that are closed at the end of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events = folder / "events.jsonl"
        self.events.touch()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "PYTHONBREAKPOINT")},
            "TERM": "xterm-256color", "PS1": "$ ", "LC_ALL": "C.UTF-8",
            "INPUTRC": os.devnull,  # a user's file could configure another prompt
        }  # fmt: skip
        self.terminals: list[Terminal] = []

    def report(self, *events: Event) -> None:
        """Let the engine report these events."""
        with self.events.open("a") as file:
            file.writelines(map(to_line, events))

    def write(self, program: str) -> str:
        """Write the program, and return its name."""
        (self.folder / "train.py").write_text(textwrap.dedent(program))
        return "train.py"

    def start(self, *command: str, **options: object) -> Terminal:
        """Start a process on a new terminal."""
        terminal = Terminal(command, folder=self.folder, environment=self.environment, **options)  # type: ignore[arg-type]
        self.terminals.append(terminal)
        return terminal

    def run(self, program: str, **options: object) -> Terminal:
        """Start a run of this program."""
        return self.start(sys.executable, str(LIVE_RUN), str(self.events), self.write(program), **options)

    def shell(self, **options: object) -> Terminal:
        """Start a shell with job control, in which `run` runs the program."""
        (self.folder / "run").write_text(f'exec {sys.executable} {LIVE_RUN} {self.events} "$@"\n')
        terminal = self.start("bash", "--norc", "--noprofile", "-i", **options)
        terminal.wait_until(lambda text: "$" in text)
        return terminal


@pytest.fixture
def live_runs(tmp_path: Path) -> Iterator[LiveRuns]:
    live_runs = LiveRuns(tmp_path)
    yield live_runs
    for terminal in live_runs.terminals:
        terminal.close()


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


NOISE = r"""
    import os, sys, time
    sys.stdin.readline()
    def write(text, *, pause=0.01):
        os.write(1, text)
        time.sleep(pause)
    for step in range(60):
        write(b"\x1b[3%dmhalf a line %d" % (step % 8, step))
        write(b" and the rest\x1b[0m\n")
        for done in range(0, 40, 9):
            write(b"\rbar %3d %-40s|" % (step, b"#" * done), pause=0.003)
        write(b"\x1b[", pause=0)
        write(b"35m", pause=0)
        write("grün".encode()[:3], pause=0)
        write("grün".encode()[3:])
        write(b"\x1b[0m\n")
"""


def test_view_does_not_corrupt_partial_lines_bars_and_colours(live_runs: LiveRuns) -> None:
    """The program writes a hundred times per second, and every cell must be as under plain Python."""
    live_runs.report(search(), *fits(100))
    plain = live_runs.start(sys.executable, live_runs.write(NOISE))
    plain.type("\n")
    shown = live_runs.run(NOISE)
    shown.wait_until(lambda text: HEADING in text and "100 of 160 fits" in text)
    drawn = shown.written.count(b"  2 of 4 workers")
    shown.type("\n")
    assert plain.wait() == 0
    assert shown.wait() == 0
    assert shown.written.count(b"  2 of 4 workers") > drawn
    expected = [line for line in plain.coloured_history if any(sign != " " for sign, _ in line)]
    first = shown.history.index("half a line 0 and the rest")
    assert shown.coloured_history[first : first + len(expected)] == expected
    assert len(expected) == 120
    assert shown.history[first + 120].startswith(RUN)


def test_prompts_and_a_debugger(live_runs: LiveRuns) -> None:
    """`input()` prompts above the view; the view is hidden for passwords and for a debugger's prompt."""
    live_runs.report(search(), *fits(97))
    shown = live_runs.run("""
        import getpass, sys
        print([stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)])
        print("hello", input("your name? "))
        print(len(getpass.getpass("your password? ")))
        secret = 42
        import pdb; pdb.set_trace()
        print("the end?")
        sys.stdin.readline()
    """)
    text = shown.wait_until(lambda text: "97 of 160" in text and "name?" in text)
    assert lines_of(text)[2:4] == ["[True, True, True]", "your name?"]
    assert lines_of(text)[-8].startswith(HEADING)
    assert lines_of(text)[-6:-4] == ["#  score    ±      fits  C   kernel", "1  0.91800  0.014  5/5   18  rbf"]
    shown.type("Ada\n")
    text = shown.wait_until(lambda text: "password?" in text and HEADING not in text)
    assert lines_of(text)[-3:] == ["your name? Ada", "hello Ada", "your password?"]
    shown.type("secret\n")
    text = shown.wait_until(lambda text: "(Pdb)" in text and HEADING not in text)
    assert "secret" not in text.split("password?")[1].split("->")[0]
    shown.type("p secret\n")
    text = shown.wait_until(lambda text: "\n42\n(Pdb)" in text and HEADING not in text)
    shown.type("c\n")
    text = shown.wait_until(lambda text: "the end?" in text and HEADING in text)
    assert "(Pdb) p secret\n42\n(Pdb) c\nthe end?" in text
    shown.type("\n")
    assert shown.wait() == 0
    assert HEADING not in shown.text


def test_ctrl_z_ctrl_c_and_kill(live_runs: LiveRuns) -> None:
    """In a shell with job control, the terminal is restored each time, and the view returns with `fg`."""
    live_runs.report(search(), *fits(97))
    live_runs.write("""
        import os, sys, time
        with open("program", "w") as file:
            file.write(str(os.getpid()))
        print("started")
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(3)
    """)
    shell = live_runs.shell()
    shell.type("sh run train.py\n")
    shell.wait_until(lambda text: "97 of 160 fits" in text and "started" in text)
    shell.type("\x1a")
    text = shell.wait_until(lambda text: "Stopped" in text and lines_of(text)[-1] == "$")
    assert HEADING not in text
    shell.type("seq 30\n")
    text = shell.wait_until(lambda text: lines_of(text)[-2:] == ["30", "$"])
    assert lines_of(text)[-24:-1] == [str(number) for number in range(8, 31)]  # the shell uses all rows
    shell.type("fg\n")
    text = shell.wait_until(lambda text: "97 of 160 fits" in text)
    assert "sh run train.py" in text
    shell.type("\x03")
    text = shell.wait_until(lambda text: "run.json" in text and lines_of(text)[-1] == "$")
    assert HEADING not in text
    assert "interrupted" in text

    shell.type("clear; sh run train.py\n")
    shell.wait_until(lambda text: "97 of 160 fits" in text and "started" in text)
    for process in ("pid", "program"):  # in a real run, the program ends with skjob
        os.kill(int((live_runs.folder / process).read_text()), signal.SIGKILL)
    shell.wait_until(lambda text: "Killed" in text and HEADING not in text)
    shell.type("seq 30\n")
    text = shell.wait_until(lambda text: lines_of(text)[-2:] == ["30", "$"])
    assert lines_of(text)[-24:-1] == [str(number) for number in range(8, 31)]


def test_view_follows_the_size_of_the_terminal(live_runs: LiveRuns) -> None:
    live_runs.report(search(), *fits(97))
    shown = live_runs.run("for line in range(40): print('line', line)\ninput('next? ')", rows=30, columns=100)
    shown.wait_until(lambda text: "97 of 160 fits" in text and "next?" in text)
    shown.resize(20, 50)
    text = shown.wait_until(lambda text: "97/160" in text)
    next_, heading, call, header, *_ = lines_of(text)[-9:]
    assert (next_, header) == ("next?", "#  score    ±      fits  C   kernel")
    assert heading.startswith("skjob  2/4 workers  ")
    assert "0.04 EUR of 2.00 EUR ──" in heading
    assert call.startswith("GridSearchCV(SVC)  ━━")
    assert text.count("skjob ") == 1
    shown.resize(24, 80)
    text = shown.wait_until(lambda text: "97 of 160 fits" in text)
    assert text.count("next?") == 1


def test_redirected_output_is_unchanged(live_runs: LiveRuns) -> None:
    """The view is only written to a terminal; there is none if stderr is a file."""
    program = live_runs.write("import sys; print('ö', sys.stdout.isatty(), sys.stderr.isatty()); input()")
    live_runs.report(search(), *fits(97))
    plain = live_runs.start("bash", "-c", f"{sys.executable} {program} > expected")
    plain.type("\n")
    assert plain.wait() == 0
    shell = live_runs.shell()
    shell.type("sh run train.py > shown\n")
    shell.wait_until(lambda text: "97 of 160 fits" in text)
    shell.type("\n")
    shell.wait_until(lambda text: "run.json" in text)
    assert (
        (live_runs.folder / "shown").read_bytes()
        == (live_runs.folder / "expected").read_bytes()
        == "ö False True\n".encode()
    )
    shell.type("clear; sh run train.py 2> errors\n")
    shell.wait_until(lambda text: "ö True False" in text)
    shell.type("\n")
    shell.wait_until(lambda text: lines_of(text)[-1] == "$")
    assert "\x1b" not in (live_runs.folder / "errors").read_text()


# ---- real runs

SEARCHES = """
    import sys, time
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.experimental import enable_halving_search_cv
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
    from sklearn.svm import SVC

    def wait(phase):
        print(phase)
        sys.stdin.readline()

    X, y = load_iris(return_X_y=True)
    GridSearchCV(SVC(), {"C": [*range(1, 33)]}, cv=5, n_jobs=-1).fit(X, y)
    wait("searched")
"""
MORE = """
    RandomForestClassifier(60, n_jobs=-1, random_state=0).fit(X, y)
    wait("grown")
    halving = HalvingGridSearchCV(SVC(), {"C": [1, 2, 3, 4, 5, 6]}, cv=2, n_jobs=-1, random_state=0).fit(X, y)
    wait(f"best: C={halving.best_params_['C']}")
    class Slow(SVC):
        def fit(self, X, y):
            time.sleep(0.5)
            return super().fit(X, y)
    inner = GridSearchCV(Slow(), {"C": [1, 2]}, cv=2, n_jobs=-1, refit=False)
    cross_validate(inner, X, y, cv=2, n_jobs=1, scoring=lambda *_: 0.0)
    wait("nested")
"""


def skjob(live_runs: LiveRuns, *options: str, **streams: object) -> Terminal:
    """Start `skjob run` with two local workers."""
    live_runs.environment |= {"KUBECONFIG": str(live_runs.folder / "none")}
    command = [sys.executable, "-m", "skjob", "run", "--on", "local", "--workers", "2", *options, "train.py"]
    return live_runs.start(*command, **streams)


def test_searches_forests_and_nested_searches(live_runs: LiveRuns) -> None:
    """A real run; each phase waits for the Enter key."""
    live_runs.write(textwrap.dedent(SEARCHES) + textwrap.dedent(MORE))
    shown = skjob(live_runs, rows=30, columns=100)

    text = shown.wait_until(lambda text: "160 of 160 fits" in text and " ended" in text and "searched" in text)
    heading, call, header, best, *others = lines_of(text)[-8:]
    assert heading.startswith("skjob  2 of 2 workers  ")
    assert call.startswith("GridSearchCV(SVC)  ━━")
    assert header == "#  score    ±      fits  C"
    assert best.startswith("1  0.98667  ")
    assert [line.split()[3] for line in (best, *others)] == ["5/5"] * 5
    assert lines_of(text)[-9] == "searched"
    shown.type("\n")

    text = shown.wait_until(lambda text: "60 of 60 tasks" in text and " ended" in text)
    assert lines_of(text)[-1].startswith("RandomForestClassifier(DecisionTree")
    shown.type("\n")

    text = shown.wait_until(lambda text: "4 of 4 fits" in text and " ended" in text)
    assert "\nHalvingGridSearchCV(SVC), iteration 1  ━━" in text
    assert [line.split()[0] for line in lines_of(text)[-3:]] == ["#", "1", "2"]
    shown.type("\n")

    text = shown.wait_until(lambda text: "cross_validate(GridSearchCV)" in text and " ended" in text)
    assert "  2 of 2 fits  " in text
    assert "└ GridSearchCV(Slow)  ".encode() in shown.written  # during the call
    shown.type("\n")

    assert shown.wait() == 0
    ended = lines_of(shown.text)
    ended = ended[ended.index("skjob: succeeded") : -1]
    [best] = [line.removeprefix("best: ") for line in lines_of(shown.text) if line.startswith("best: ")]
    assert [line.removeprefix("skjob: ").partition(":")[0] for line in ended] == [
        "succeeded", "time", "done", "workers",
        "searches", "best of GridSearchCV(SVC)", "  with C=5", "best of HalvingGridSearchCV(SVC)", f"  with {best}",
        "best of GridSearchCV(Slow)", "  with C=2",
        "the record of the run",
    ]  # fmt: skip
    assert ended[2].endswith(" fits, 60 tasks")


@pytest.mark.slow
def test_resumed_run_on_50_columns_and_ctrl_c(live_runs: LiveRuns) -> None:
    live_runs.write(SEARCHES)
    first = skjob(live_runs)
    first.wait_until(lambda text: "searched" in text)
    first.type("\n")
    assert first.wait() == 0
    assert "160 fits\n" in first.text
    again = skjob(live_runs, columns=50)
    text = again.wait_until(lambda text: "160/160" in text and " ended" in text)
    assert [line.split()[0] for line in lines_of(text)[-8:]] == ["skjob", "GridSearchCV(SVC)", "#", *"12345"]
    assert "  160 reused " in text
    again.type("\x03")
    assert again.wait() == 128 + signal.SIGINT
    assert "KeyboardInterrupt" in again.text
    assert "skjob: done: 160 fits, 160 of them reused" in again.text
    assert "skjob  2/2 workers" not in again.text
