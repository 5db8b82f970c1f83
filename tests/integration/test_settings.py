"""Settings of the program's process, and log records of its tasks, are as in plain Python."""

import textwrap
from typing import Any

import pytest
from local_runs import LocalRuns

SCALED = """
    import os
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    os.environ["MYPROJECT_SCALE"] = "{scale}"


    def scaled(X):
        return X * float(os.environ.get("MYPROJECT_SCALE", "0"))


    pipe = make_pipeline(FunctionTransformer(scaled), LogisticRegression(max_iter=2000))
    print(cross_val_score(pipe, *load_iris(return_X_y=True), cv=3).round(4).tolist())
"""

RAISING = """
    import warnings
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.datasets import load_iris
    from sklearn.dummy import DummyClassifier
    from sklearn.model_selection import GridSearchCV

    {errors}
    warnings.simplefilter("ignore")


    class Fragile(ClassifierMixin, BaseEstimator):
        def __init__(self, divisor=1.0):
            self.divisor = divisor

        def fit(self, X, y):
            np.asarray(X) / self.divisor
            self.model_ = DummyClassifier().fit(X, y)
            self.classes_ = self.model_.classes_
            return self

        def predict(self, X):
            return self.model_.predict(X)


    search = GridSearchCV(Fragile(), {{"divisor": [1.0, 0.0]}}, cv=2, error_score=-1)
    print(search.fit(*load_iris(return_X_y=True)).cv_results_["mean_test_score"].round(4).tolist())
"""

TALKING = """
    import logging
    import sys
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
    log = logging.getLogger("train")
    logging.getLogger("train.quiet").setLevel(logging.ERROR)


    def logger_of_its_own():
        own = logging.getLogger("train.own")
        if not own.handlers:
            own.addHandler(logging.StreamHandler(sys.stdout))
            own.propagate = False
        return own


    logger_of_its_own()


    class Talking(ClassifierMixin, BaseEstimator):
        def __init__(self, C=1.0):
            self.C = C

        def fit(self, X, y):
            print("before")
            log.info("fitting %d rows with C=%s", len(X), self.C)
            log.debug("not shown")
            logging.getLogger("train.quiet").warning("not shown")
            logger_of_its_own().info("by its own handler")
            self.model_ = LogisticRegression(C=self.C, max_iter=500).fit(X, y)
            self.classes_ = self.model_.classes_
            return self

        def predict(self, X):
            return self.model_.predict(X)


    search = GridSearchCV(Talking(), {"C": [0.1, 1]}, cv=2).fit(*load_iris(return_X_y=True))
    log.info("best %s", search.best_params_)
"""

EACH_SETTING = """
    import decimal, locale, os, random, socket, sys, time, warnings
    from pathlib import Path
    import joblib, numpy as np, pandas as pd, sklearn

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    del os.environ["MYPROJECT_REMOVED"]
    locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
    sys.setrecursionlimit(3210)
    socket.setdefaulttimeout(12.5)
    decimal.getcontext().prec = 6
    np.seterr(divide="raise")
    np.set_printoptions(precision=2)
    pd.set_option("display.max_rows", 4)
    pd.set_option("display.float_format", "{:.1f}".format)
    sklearn.set_config(assume_finite=True, transform_output="pandas")
    Path("inner").mkdir(exist_ok=True)
    Path("inner/neighbour.txt").write_text("neighbour")
    os.chdir("inner")


    class OfTheScript(UserWarning):
        pass


    warnings.simplefilter("error", OfTheScript)
    warnings.filterwarnings("ignore", message="ignored")


    def look(number):
        messages = []
        try:
            warnings.warn("raised", OfTheScript)
        except OfTheScript as error:
            messages.append(repr(error))
        warnings.warn("ignored")
        try:
            np.ones(1) / np.zeros(1)
        except FloatingPointError as error:
            messages.append(str(error))
        return [
            number, os.environ.get("MYPROJECT_REMOVED"), os.environ.get("MYPROJECT_KEPT"), time.localtime(0).tm_hour,
            locale.setlocale(locale.LC_NUMERIC), sys.getrecursionlimit(), socket.getdefaulttimeout(),
            str(decimal.Decimal(1) / 3), str(np.array([1 / 3])), str(pd.Series(range(9)) / 3), sklearn.get_config(),
            Path("neighbour.txt").read_text(), *messages,
        ]


    for line in joblib.Parallel()(joblib.delayed(look)(number) for number in range(3)):
        print(line)
"""

PASSES_ON = """
    import os, threading
    import joblib

    RESULTS = {}


    def look(number):
        return os.environ["MYPROJECT_CALL"], os.getpid()


    def call(name):
        with lock:
            os.environ["MYPROJECT_CALL"] = name
            tasks = joblib.Parallel(n_jobs=-1, return_as="generator")(joblib.delayed(look)(n) for n in range(40))
        RESULTS[name] = list(tasks)


    lock = threading.Lock()
    threads = [threading.Thread(target=call, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print({name: {value for value, _ in results} for name, results in sorted(RESULTS.items())})
    shared = {process for _, process in RESULTS["one"]} & {process for _, process in RESULTS["two"]}
    print("in the same process:", bool(shared))
"""


def _run_both(local_runs: LocalRuns, program: str) -> Any:
    """Check that a program writes the same with skjob as with plain Python; return skjob's run."""
    ended, plain = local_runs.run(program), local_runs.python(program)
    assert (plain.returncode, ended.returncode) == (0, 0), plain.stderr + ended.stderr
    assert ended.stdout == plain.stdout
    assert ended.program_stderr == plain.stderr
    return ended


def test_variable_set_by_the_script(local_runs: LocalRuns) -> None:
    """Its value is part of a fit's key: fits with another value are not reused."""
    assert _run_both(local_runs, SCALED.format(scale=10)).record["fits"]["kept"] == 3
    again = _run_both(local_runs, SCALED.format(scale=0))
    assert (again.record["fits"]["kept"], again.record["fits"]["found"]) == (3, 0)
    assert _run_both(local_runs, SCALED.format(scale=10)).record["fits"]["found"] == 3


@pytest.mark.slow
def test_variable_of_the_programs_environment(local_runs: LocalRuns) -> None:
    """Workers have another environment. A variable that the code reads by name is sent, and in no file of the run."""
    local_runs.environment["MYPROJECT_SCALE"] = "10.25"
    ended = _run_both(local_runs, SCALED.replace('os.environ["MYPROJECT_SCALE"] = "{scale}"', ""))
    assert "10.25" not in str(ended.record)
    files = [file for file in local_runs.folder.rglob("*") if file.is_file() and file.suffix != ".py"]
    assert not [file for file in files if b"10.25" in file.read_bytes()]


def test_variable_with_another_value_on_workers_is_reported(local_runs: LocalRuns) -> None:
    local_runs.environment["HOME"] = str(local_runs.folder)
    program = """
        import os
        import joblib

        {top}


        def look(number):
            return {read}


        print(len(joblib.Parallel()(joblib.delayed(look)(number) for number in range(4))))
    """
    line = "tasks read the environment variable `HOME`, and workers have a value of their own"
    reading = local_runs.run(program.format(top="", read='os.environ["HOME"]'))
    assert (reading.stdout, reading.stderr.count(line)) == ("4\n", 1), reading.stderr
    not_reading = local_runs.run(program.format(top='os.environ["HOME"]', read="number"))
    assert (not_reading.stdout, not_reading.stderr.count("HOME")) == ("4\n", 0), not_reading.stderr


def test_numpy_errors(local_runs: LocalRuns) -> None:
    """A fit that was stored without them is not reused with them, as it would raise an error."""
    _run_both(local_runs, RAISING.format(errors=""))
    _run_both(local_runs, RAISING.format(errors='np.seterr(all="raise")'))


def test_log_records(local_runs: LocalRuns) -> None:
    """They are in the order of the tasks, and in order with the tasks' output."""
    _run_both(local_runs, TALKING)


def test_all_settings_of_the_process(local_runs: LocalRuns) -> None:
    local_runs.environment |= {"MYPROJECT_REMOVED": "1", "MYPROJECT_KEPT": "2"}
    _run_both(local_runs, EACH_SETTING)


def test_concurrent_calls_with_different_settings(local_runs: LocalRuns) -> None:
    ended = local_runs.run(PASSES_ON)
    assert ended.stdout == "{'one': {'one'}, 'two': {'two'}}\nin the same process: True\n", ended.stderr


@pytest.mark.parametrize(
    ("seed", "reported"),
    [("np.random.seed(1)", True), ("", False)],
)
def test_seed_of_the_global_generator_is_reported(local_runs: LocalRuns, seed: str, reported: bool) -> None:
    program = f"""
        import joblib
        import numpy as np

        {seed}


        def draw(number):
            return np.random.standard_normal()


        print(len(joblib.Parallel()(joblib.delayed(draw)(number) for number in range(4))))
    """
    ended = local_runs.run(program)
    assert ended.stdout == "4\n", ended.stderr
    line = "`np.random.seed` does not reach workers, and tasks draw from `numpy.random` there"
    assert ended.stderr.count(line) == int(reported)


@pytest.mark.slow
def test_fits_of_an_earlier_release_are_reported_once(local_runs: LocalRuns) -> None:
    earlier = local_runs.folder / ".skjob" / "fits" / ("a" * 40)
    earlier.mkdir(parents=True)
    (earlier / f"{'b' * 40}.json").write_text("{}")
    line = "fits kept by an earlier release are not reused"
    counts = [local_runs.run(textwrap.dedent(SCALED.format(scale=1))).stderr.count(line) for _ in range(2)]
    assert counts == [1, 0]
