"""What differs from a new process is taken, and a task has it for as long as it runs."""

import decimal
import locale
import logging
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import sklearn
from gates import wait_for_waiting
from joblib._parallel_backends import SequentialBackend

from skjob.engine.fidelity.effects import task_threads
from skjob.engine.fidelity.effects.random_draws import (
    continue_from,
    describe_draw,
    drawn,
    positions,
    seeded_by,
    states,
    watched_draws,
)
from skjob.engine.fidelity.settings import program_reads
from skjob.engine.fidelity.settings import snapshot as module
from skjob.engine.fidelity.settings.applying import applied
from skjob.engine.fidelity.settings.logs import LogLevels
from skjob.engine.fidelity.settings.own_variables import differing_variables
from skjob.engine.fidelity.settings.packing import CallSettings, PackedSettings, unpack
from skjob.engine.fidelity.settings.process import GATE, ProcessSettings
from skjob.engine.fidelity.settings.program_reads import Scanner
from skjob.engine.fidelity.settings.snapshot import take_settings, why_settings_stay
from skjob.engine.fidelity.settings.values import NUMPY_ERRORS, ProgramSettings
from skjob.engine.task import run_batch
from skjob.engine.transfer.local_code import local_modules


@pytest.fixture(autouse=True)
def _program_begins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program that begins now, with a script that has no code, in a process that keeps nothing of it."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    monkeypatch.setattr(module, "_scanner", Scanner())
    # Modules of these tests lie outside of the environment too: which are there depends on what has run before.
    monkeypatch.setattr(program_reads, "local_modules", _below)
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.setattr(module, "_baseline", module._baseline)
    with decimal.localcontext(decimal.Context()), np.errstate(**NUMPY_ERRORS):
        module.set_baseline()
        yield


def _below(root: Path | None) -> list[ModuleType]:
    """The program's modules, without those of the tests."""
    if root is None:
        return []
    return [module for module in local_modules(root) if str(getattr(module, "__file__", "")).startswith(str(root))]


def _elsewhere(taken: ProgramSettings) -> ProgramSettings:
    """The settings as a worker's process sees them."""
    return ProgramSettings(**{**vars(taken), "taken_in": "another process"})


def _script(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Let this be the program."""
    (folder / "script.py").write_text(text)
    main = ModuleType("__main__")
    main.__file__ = str(folder / "script.py")
    exec(compile(text, main.__file__, "exec"), vars(main))  # noqa: S102 - the program
    monkeypatch.setitem(sys.modules, "__main__", main)


SETS_NOTHING = """
import numpy, pandas, sklearn
from skjob.engine.fidelity.settings.snapshot import set_baseline, take_settings, why_settings_stay
set_baseline()
taken = take_settings()
print(taken.process)
print(taken.numpy_errors, taken.numpy_printing, taken.sklearn, taken.decimals)
print(why_settings_stay(), taken.in_key(), taken.own_variables, taken.joins)
"""


def test_a_program_that_sets_nothing() -> None:
    """In a process of its own: other tests have set something in this one."""
    ended = subprocess.run([sys.executable, "-c", SETS_NOTHING], capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines() == [
        str(ProcessSettings()), "() () () None", "None () () False"
    ], ended.stderr  # fmt: skip


def test_variables_that_the_program_has_set_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPROJECT_BEFORE", "1")
    module.set_baseline()
    monkeypatch.setenv("MYPROJECT_SCALE", "10")
    monkeypatch.delenv("MYPROJECT_BEFORE")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("HOME", "/nowhere")
    assert take_settings().process.variables == (("MYPROJECT_BEFORE", None), ("MYPROJECT_SCALE", "10"))


def test_variables_that_the_programs_code_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("READ", "THROUGH_A_GLOBAL", "AT_THE_TOP", "IN_A_MODULE"):
        monkeypatch.setenv(f"MYPROJECT_{name}", name)
    (tmp_path / "beside.py").write_text("import os\nSCALE = os.environ['MYPROJECT_IN_A_MODULE']\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    module.set_baseline()
    _script(
        monkeypatch,
        tmp_path,
        "import os, beside\nNAME = 'MYPROJECT_THROUGH_A_GLOBAL'\nTOP = os.environ['MYPROJECT_AT_THE_TOP']\n"
        "def scaled(X):\n    return X * len(os.environ['MYPROJECT_READ']) * len(os.getenv(NAME)), os.environ['HOME']\n",
    )
    taken = take_settings(tmp_path)
    monkeypatch.delitem(sys.modules, "beside")
    assert [name for name, _ in taken.process.variables] == [
        "MYPROJECT_IN_A_MODULE", "MYPROJECT_READ", "MYPROJECT_THROUGH_A_GLOBAL",
    ]  # fmt: skip
    assert [name for name, _ in taken.own_variables] == ["HOME"]
    scaled, other = sys.modules["__main__"].scaled, lambda X: X
    assert differing_variables(taken, [scaled]) == ()
    monkeypatch.setenv("HOME", "/a/workers/own")
    assert differing_variables(taken, [scaled]) == ("HOME",)
    assert differing_variables(taken, [other]) == ()


def test_names_made_at_run_time_are_looked_for_among_constants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MYPROJECT_SCALE", "10")
    module.set_baseline()
    text = "import os\ndef read(name):\n    return os.environ[name]\ndef fit():\n    return read('MYPROJECT_SCALE')\n"
    _script(monkeypatch, tmp_path, text)
    taken = take_settings(tmp_path)
    assert taken.process.variables == (("MYPROJECT_SCALE", "10"),)
    main: Any = sys.modules["__main__"]
    assert differing_variables(taken, [main.read]) == ()
    monkeypatch.setenv("MYPROJECT_ONLY_HERE", "1")
    assert differing_variables(taken, [main.read]) == ("*",)
    assert differing_variables(taken, [main.fit, int]) == ()


def test_functions_of_a_notebook_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPROJECT_SCALE", "10")
    module.set_baseline()
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert take_settings().process.variables == ()
    exec("import os\nclass A:\n    def fit(self):\n        return os.environ['MYPROJECT_SCALE']\n", vars(main))  # noqa: S102
    assert take_settings().process.variables == (("MYPROJECT_SCALE", "10"),)


def _round(value: str) -> str:
    return str(decimal.Decimal(1) / decimal.Decimal(value))


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda: np.seterr(all="raise"), lambda: np.geterr()["divide"]),
        (lambda: np.set_printoptions(precision=2), lambda: str(np.array([1 / 3]))),
        (lambda: setattr(decimal.getcontext(), "prec", 5), lambda: _round("3")),
        (lambda: decimal.getcontext().traps.__setitem__(decimal.Inexact, True),
         lambda: decimal.getcontext().traps[decimal.Inexact]),
        (lambda: sklearn.set_config(transform_output="pandas"), lambda: sklearn.get_config()["transform_output"]),
        (lambda: pd.set_option("display.max_colwidth", 9), lambda: pd.get_option("display.max_colwidth")),
        (lambda: sys.setrecursionlimit(4567), sys.getrecursionlimit),
        (lambda: warnings.simplefilter("error", ResourceWarning), lambda: warnings.filters[0][:3]),
        (lambda: os.environ.__setitem__("MYPROJECT_SCALE", "3"), lambda: os.environ.get("MYPROJECT_SCALE")),
    ],
    ids=["errors", "printing", "decimal", "traps", "sklearn", "pandas", "recursion", "filters", "variables"],
)  # fmt: skip
def test_a_setting_reaches_a_task_elsewhere(make: Callable[[], Any], read: Callable[[], Any]) -> None:
    """Made here, taken, undone; a task has it then, and nobody after it."""
    with _nothing_stays():
        before = read()
        with _nothing_stays():
            make()
            made, taken = read(), take_settings()
        assert read() == before != made
        sent = _elsewhere(cloudpickle.loads(pickle.dumps(taken)))
        with applied(sent):
            assert read() == made
        assert read() == before


class _nothing_stays:  # noqa: N801
    """What the program has set in the block is undone at its end."""

    def __enter__(self) -> None:
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        self._errors, self._printing = np.geterr(), np.get_printoptions()
        self._context, self._limit = decimal.getcontext().copy(), sys.getrecursionlimit()
        self._config, self._variable = sklearn.get_config(), os.environ.get("MYPROJECT_SCALE")

    def __exit__(self, *_: object) -> None:
        np.seterr(**self._errors)
        np.set_printoptions(**self._printing)
        decimal.setcontext(self._context)
        sklearn.set_config(**self._config)
        pd.reset_option("display.max_colwidth")
        sys.setrecursionlimit(self._limit)
        os.environ.pop("MYPROJECT_SCALE", None)
        if self._variable is not None:
            os.environ["MYPROJECT_SCALE"] = self._variable
        self._filters.__exit__(None, None, None)


def test_what_a_task_changes_of_its_threads_settings_ends_with_it() -> None:
    with applied(ProgramSettings(taken_in="another process")):
        np.seterr(all="raise")
    assert np.geterr() == NUMPY_ERRORS


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = Path.cwd()
    monkeypatch.chdir(tmp_path)
    taken = take_settings()
    monkeypatch.chdir(before)
    with applied(_elsewhere(taken)):
        assert Path.cwd() == tmp_path
    assert Path.cwd() == before


def test_settings_of_the_same_process_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPROJECT_SCALE", "1")
    taken = take_settings()
    monkeypatch.setenv("MYPROJECT_SCALE", "2")
    with applied(taken):
        assert os.environ["MYPROJECT_SCALE"] == "2"
        assert GATE.active is None


def test_a_call_made_by_a_task_has_its_settings() -> None:
    wide = ProcessSettings(variables=(("MYPROJECT_SCALE", "1"),))
    with applied(ProgramSettings(process=wide, taken_in="another process")):
        inner = take_settings()
    assert (inner.joins, inner.process) == (True, wide)


def test_scikit_learns_own_are_not_sent_twice() -> None:
    with warnings.catch_warnings(), sklearn.config_context(assume_finite=True):
        warnings.resetwarnings()
        warnings.simplefilter("ignore", ResourceWarning)
        call = CallSettings(None)

    class Wrapped:
        warning_filters: tuple[Any, ...] = ()

    plain, wrapped = unpack(call.packed([(int, (), {})])), unpack(call.packed([(Wrapped(), (), {})]))  # type: ignore[list-item]
    assert plain.sklearn == (("assume_finite", True),)
    assert plain.process.filters is not None
    assert (wrapped.sklearn, wrapped.process.filters) == ((), None)


def test_filters_that_make_errors_are_sent_all_the_same() -> None:
    """Else a task of scikit-learn's that ends would take them from those in other threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        taken = take_settings()
    assert taken.without_sklearn_own().process.filters == taken.process.filters is not None


def test_settings_are_packed_once_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPROJECT_PASSWORD", "secret")
    call = CallSettings(None)
    packed = call.packed([(int, (), {})])
    assert packed is call.packed([(len, ("",), {})])
    assert unpack(packed) is unpack(PackedSettings(packed.content))
    assert ("MYPROJECT_PASSWORD", "secret") in unpack(packed).process.variables
    assert "secret" not in repr(packed) + repr(unpack(packed))


def test_settings_that_cannot_be_sent_are_told() -> None:
    lock = threading.Lock()
    pd.set_option("display.float_format", lambda value: str((value, lock)))
    try:
        with pytest.raises(TypeError, match=r"^the program has a setting that cannot be pickled: .*lock"):
            CallSettings(None).packed([(int, (), {})])
    finally:
        pd.reset_option("display.float_format")


def test_a_low_recursion_limit_keeps_tasks_here() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(900)
    reason = why_settings_stay()
    sys.setrecursionlimit(limit)
    assert reason == "the recursion limit is lower than Python's own"


def test_settings_made_before_the_first_look_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`skjob.cluster()` and a client of the program's own: nobody says when the program begins."""
    with _nothing_stays():
        sys.setrecursionlimit(4567)
        np.set_printoptions(precision=2)
        decimal.getcontext().prec = 5
        monkeypatch.setattr(module, "_baseline", module._new_process())
        taken = take_settings()
    assert taken.process.recursion_limit == 4567
    assert dict(taken.numpy_printing)["precision"] == 2
    assert taken.decimals is not None
    assert taken.process.filters is not None
    assert taken.process.folder is not None


def test_a_function_that_numpy_calls_keeps_tasks_here() -> None:
    before = np.seterrcall(lambda *_: None)
    try:
        assert why_settings_stay() is None
        with np.errstate(all="call"):
            assert why_settings_stay() == "numpy hands errors to a function of the program (`np.seterrcall`)"
    finally:
        np.seterrcall(before)


def test_what_may_change_a_result_is_in_the_key() -> None:
    raising = ProgramSettings(numpy_errors=(("divide", "raise"),))
    ignoring = ProgramSettings(numpy_errors=(("divide", "ignore"),))
    shown = ProgramSettings(process=ProcessSettings(pandas_options=(("display.precision", 3),)))
    counts = ProgramSettings(process=ProcessSettings(pandas_options=(("compute.use_numexpr", False),)))
    secret = ProgramSettings(process=ProcessSettings(variables=(("MYPROJECT_PASSWORD", "secret"),)))
    assert ignoring.in_key() == shown.in_key() == secret.in_key() == ()
    assert len({raising.in_key(), counts.in_key(), ()}) == 3


def test_taking_takes_little_time() -> None:
    """Thousands of calls a second come from `KernelDensity.score`; ten times the promise, for a busy machine."""
    take_settings()
    durations = []
    for _ in range(20):
        started = time.perf_counter()
        take_settings()
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.002


# --------------------------------------------------------------------------------------------------- in a task


def test_a_task_has_them_while_it_is_read_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reads:
        def __reduce__(self) -> Any:
            return os.getenv, ("MYPROJECT_SCALE",)

    def as_run(as_read: str | None) -> Any:
        logging.getLogger("train").info("in a task")
        return as_read, os.environ.get("MYPROJECT_SCALE")

    wide = ProcessSettings(variables=(("MYPROJECT_SCALE", "4"),))
    packed = PackedSettings(pickle.dumps(ProgramSettings(process=wide, levels=LogLevels(root=logging.INFO))))
    payload = cloudpickle.dumps(([(as_run, (Reads(),), {})], SequentialBackend(nesting_level=1), {}))
    [outcome] = run_batch("the-task", payload, [], settings=packed)
    assert cloudpickle.loads(outcome.content) == ("4", "4")
    assert [record.text for record in outcome.logged] == ["in a task"]


def test_two_tasks_with_other_settings_have_each_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run in two threads of one process; the second waits until the first has ended."""
    events: Any = ModuleType("events_of_a_test")
    events.inside, events.go_on = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "events_of_a_test", events)

    def first() -> str:
        import events_of_a_test as events  # type: ignore[import-not-found]

        events.inside.set()
        assert events.go_on.wait(30)
        return os.environ["MYPROJECT_SCALE"]

    def second() -> str:
        return os.environ["MYPROJECT_SCALE"]

    def run(function: Callable[[], str], value: str) -> Any:
        wide = ProcessSettings(variables=(("MYPROJECT_SCALE", value),))
        payload = cloudpickle.dumps(([(function, (), {})], SequentialBackend(nesting_level=1), {}))
        packed = PackedSettings(pickle.dumps(ProgramSettings(process=wide)))
        [outcome] = run_batch(f"task-{value}", payload, [], settings=packed)
        return cloudpickle.loads(outcome.content)

    with ThreadPoolExecutor() as pool:
        one = pool.submit(run, first, "1")
        assert events.inside.wait(30)
        two = pool.submit(run, second, "2")
        wait_for_waiting(GATE, 1)
        assert not two.done()
        events.go_on.set()
        assert (one.result(30), two.result(30)) == ("1", "2")
    assert GATE.active is None


def test_a_task_that_cannot_have_them_fails_with_words() -> None:
    packed = PackedSettings(pickle.dumps(ProgramSettings(process=ProcessSettings(recursion_limit=1))))
    payload = cloudpickle.dumps(([(int, (), {})], SequentialBackend(nesting_level=1), {}))
    [outcome] = run_batch("the-task", payload, [], settings=packed)
    assert outcome.refused.startswith("a worker cannot have the recursion limit of the program")


# ------------------------------------------------------------------------------------------- global generators


def test_a_generator_that_the_program_has_seeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = np.random.get_bit_generator()  # type: ignore[attr-defined]
    np.random.set_bit_generator(np.random.MT19937())  # type: ignore[attr-defined]
    assert take_settings().seeded == frozenset()
    np.random.seed(3)
    assert take_settings().seeded == {"numpy.random"}
    before = positions(frozenset({"numpy.random"}))
    assert drawn(frozenset({"numpy.random"}), before) == ()
    np.random.standard_normal()
    assert drawn(frozenset({"numpy.random"}), before) == ("numpy.random",)
    np.random.set_bit_generator(own)  # type: ignore[attr-defined]
    _script(monkeypatch, tmp_path, "import random\nrandom.seed(1)\ndef fit():\n    return random.random()\n")
    assert take_settings(tmp_path).seeded == {"random"}


def test_tasks_that_seed_a_generator_let_the_program_continue_from_there() -> None:
    own = np.random.get_bit_generator()  # type: ignore[attr-defined]
    np.random.set_bit_generator(np.random.MT19937())  # type: ignore[attr-defined]
    try:
        np.random.seed(7)
        expected = np.random.standard_normal(3)
        np.random.seed(7)
        with watched_draws(frozenset({"numpy.random", "random"})) as draws:
            np.random.seed(7)
            random.getrandbits(8)
        assert (draws.seeded, draws.drawn) == ({"numpy.random"}, {"random"})
        after = states(draws.seeded)
        np.random.seed(8)
        continue_from(after)
        assert np.random.standard_normal(3).tolist() == expected.tolist()
        assert take_settings().seeded == {"numpy.random"}
    finally:
        np.random.set_bit_generator(own)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import numpy as np\ndef fit():\n    np.random.seed(1)", {"numpy.random"}),
        ("from numpy.random import seed\ndef fit():\n    seed(1)", {"numpy.random"}),
        ("import random\ndef fit():\n    random.seed(1)", {"random"}),
        ("def fit():\n    import random\n    random.seed(1)", {"random"}),
        ("import random\ndef fit(model):\n    model.seed(random.random())", set()),
        ("def fit(seed):\n    import random\n    return random.Random(seed).random()", set()),
        ("def fit():\n    from random import seed\n    seed(1)", {"random"}),
        ("import numpy as np\ndef fit():\n    return np.random.default_rng(1)", set()),
    ],
)
def test_which_generators_code_seeds(text: str, modules: set[str]) -> None:
    scope: dict[str, Any] = {}
    exec(text, scope)  # noqa: S102 - as a program's own
    assert seeded_by([scope["fit"]]) == modules


def test_a_draw_before_the_seed_is_one_of_another_generator() -> None:
    before = random.getstate()
    try:
        with watched_draws(frozenset({"random"})) as draws:
            random.getrandbits(8)
            random.seed(1)
        assert (draws.seeded, draws.drawn) == ({"random"}, {"random"})
        with watched_draws(frozenset({"random"})) as draws:
            random.seed(1)
            random.getrandbits(8)
            random.seed(2)
        assert (draws.seeded, draws.drawn) == ({"random"}, set())
        with watched_draws(frozenset()) as draws:
            _in_thread(lambda: random.seed(1))
        assert (draws.seeded, draws.drawn) == ({"random"}, set())
    finally:
        random.setstate(before)


def _in_thread(function: Callable[[], None]) -> None:
    task_threads.install()
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_what_seeds_can_be_pickled() -> None:
    with watched_draws(frozenset()):
        assert pickle.loads(pickle.dumps(np.random.seed)) is np.random.seed  # noqa: S301 - our own bytes
        assert pickle.loads(pickle.dumps(random.seed)) is random.seed  # noqa: S301 - our own bytes


def test_whether_a_program_asks_for_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _script(monkeypatch, tmp_path, "def fit():\n    pass\n")
    assert not take_settings(tmp_path).asks_caches
    (other := tmp_path / "other").mkdir()
    _script(monkeypatch, other, "def fit():\n    pass\nif False:\n    print(fit.cache_info())\n")
    assert take_settings(other).asks_caches


def test_what_is_told_of_it() -> None:
    assert describe_draw("numpy.random") == (
        "`np.random.seed` does not reach workers, and tasks draw from `numpy.random` there; give each estimator a "
        "`random_state`"
    )


def test_each_category_has_its_own_locale_where_macos_joins_them(monkeypatch: pytest.MonkeyPatch) -> None:
    named = dict.fromkeys(module.CATEGORIES, "C") | {locale.LC_NUMERIC: "de_DE.UTF-8", locale.LC_CTYPE: "UTF-8"}
    joined = "C/UTF-8/C/de_DE.UTF-8/C/C"
    monkeypatch.setattr("locale.setlocale", lambda number: joined if number == locale.LC_ALL else named[number])
    module._by_category.cache_clear()
    assert module._locales_now() == named
    module._by_category.cache_clear()
