"""Messages of a run about its fits and tasks are correct, and shown once."""

from __future__ import annotations

import pytest
from local_runs import LocalRuns

SEARCH = """
    from tempfile import mkdtemp

    from sklearn.datasets import load_iris
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.tree import DecisionTreeClassifier

    steps = [("pca", PCA(svd_solver="full")), ("tree", DecisionTreeClassifier(random_state=0))]
    pipe = Pipeline(steps, memory=mkdtemp())
    X, y = load_iris(return_X_y=True)
    search = GridSearchCV(pipe, {"pca__n_components": [1, 2], "tree__max_depth": [1, 2]}, cv=3).fit(X, y)
"""


def test_invalid_parameter_is_shown_as_in_plain_python(local_runs: LocalRuns) -> None:
    script = """
        from sklearn.datasets import load_iris
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

        GridSearchCV(SVC(), {"Cc": [1]}).fit(*load_iris(return_X_y=True))
    """
    ended, plain = local_runs.run(script), local_runs.python(script)
    assert ended.returncode == plain.returncode == 1
    assert ended.program_stderr.count("Traceback") == ended.program_stderr.count("Invalid parameter 'Cc'") == 1
    assert ended.program_stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
    assert "_fit_and_score\n    estimator = estimator.set_params(" in ended.program_stderr
    [closing] = [line for line in ended.stderr.splitlines() if line.startswith("skjob: the program failed")]
    assert closing.startswith("skjob: the program failed, ValueError: Invalid parameter 'Cc' for estimator SVC()")
    assert closing.endswith("…")


@pytest.mark.slow
def test_fits_are_reused_with_another_cache_folder_of_the_pipeline(local_runs: LocalRuns) -> None:
    script = f"{SEARCH}\n    print(search.best_params_)"
    first, second = local_runs.run(script), local_runs.run(script)
    assert first.stdout == second.stdout != ""
    assert "skjob: reused 12 of 12 fits from an earlier run\n" in second.stderr
    assert second.record["fits"]["kept"] == 0


def test_run_that_fails_after_all_fits_reports_that_they_are_saved(local_runs: LocalRuns) -> None:
    ended = local_runs.run(f"{SEARCH.replace('mkdtemp()', 'None')}\n    open('/nowhere/model', 'w')")
    assert ended.returncode == 1
    assert "skjob: all 12 fits so far are saved; the same command does not repeat them\n" in ended.stderr
    assert "for the rest" not in ended.stderr


def test_changes_to_a_module_of_the_program_are_not_lost(local_runs: LocalRuns) -> None:
    (local_runs.folder / "steps_counted.py").write_text("COUNT = 0\n")
    script = """
        from joblib import Parallel, delayed

        import steps_counted

        def work(number):
            steps_counted.COUNT += 1
            return number

        print(Parallel()(delayed(work)(number) for number in range(5)), steps_counted.COUNT)
    """
    ended = local_runs.run(script)
    assert ended.stdout == local_runs.python(script).stdout == "[0, 1, 2, 3, 4] 5\n", ended.stderr
    assert "runs in this process: its tasks change `steps_counted.COUNT`" in ended.stderr


def test_objects_too_large_to_compare_are_reported_once_at_the_end(local_runs: LocalRuns) -> None:
    script = """
        from joblib import Parallel, delayed

        table = {number: "x" * 1000 + str(number) for number in range(2000)}

        def work(number):
            return len(table[number])

        for _ in range(2):
            Parallel()(delayed(work)(number) for number in range(5))
        Parallel(n_jobs=2)(delayed(work)(number) for number in range(5))
        print("done", flush=True)
    """
    ended = local_runs.run(script)
    assert ended.returncode == 0, ended.stderr
    words = "use `table` (too large to compare): a change of it by a task is not seen"
    line = f"skjob: the tasks of `work` (train.py:10) {words}"
    lines = ended.stderr.splitlines()
    assert [each for each in lines if "is not seen" in each] == [line]
    assert lines.index(line) > max(place for place, each in enumerate(lines) if each.endswith(" workers"))
