"""A job file is read whole, and each of its problems is told in plain words with its line and column."""

import sys
from pathlib import Path

import pandas
import pytest

from skjob.errors import ConfigError
from skjob.jobfile.data.files import files_of
from skjob.jobfile.data.table_size import table_of
from skjob.jobfile.imports import importable_from, resolve_path
from skjob.jobfile.loader import read_job
from skjob.jobfile.schema import Component, TableFile
from skjob.jobfile.schema_search import GridSearch

pytestmark = pytest.mark.unit

SECTIONS = {
    "estimator": "estimator: {class: sklearn.svm.SVC}",
    "search": "search: {kind: grid}",
    "space": "space: {C: [1, 10]}",
    "data": "data: {path: data.csv, target: y}",
    "scoring": "scoring: accuracy",
    "cv": "cv: 3",
    "outputs": "outputs: {model: best.joblib, table: results.csv}",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data.csv").write_text("a,b,site,y\n1,2,0,0\n3,4,1,1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _problems(text: str) -> list[str]:
    """What is said of a job file, without its name and the hint."""
    Path("job.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_job(Path("job.yaml"))
    lines = caught.value.message.splitlines()
    if len(lines) > 1:
        assert lines[0] == f"{len(lines) - 1} problems:"
        lines = [line.removeprefix("  - ") for line in lines[1:]]
    assert all(line.startswith("job.yaml:") for line in lines)
    return [line.removeprefix("job.yaml:") for line in lines]


def _with(**sections: str) -> str:
    """A sound job, one line a section in the order of SECTIONS, with some replaced; an empty one is left out."""
    lines = [sections.get(name, line) for name, line in SECTIONS.items()]
    return "\n".join(line for line in lines if line) + "\n"


def test_a_sound_file_is_read(folder: Path) -> None:
    Path("job.yaml").write_text(_with())
    job = read_job(Path("job.yaml"))
    assert job.estimator == Component(import_path="sklearn.svm.SVC")
    assert job.search == GridSearch(kind="grid")
    assert job.space == {"C": (1, 10)}
    assert job.data == TableFile(path="data.csv", target="y")
    assert (job.scoring, job.cv) == ("accuracy", 3)


def test_five_mistakes_give_five_lines_in_the_order_of_the_file(folder: Path) -> None:
    text = """\
estimator:
  class: sklearn.svm.SCV
search:
  kind: grid
  n_iter: 20
space:
  C: [0.1, 1]
data:
  path: date.csv
  target: y
scoring: acuracy
outputs:
  model: models/best.joblib
"""
    assert _problems(text) == [
        "2:10: estimator.class: module `sklearn.svm` has no `SCV`; did you mean `SVC`?",
        "5:3: search.n_iter: `grid` has no `n_iter`: it belongs to `random`",
        "9:9: data.path: `date.csv` does not exist",
        "11:10: scoring: unknown scorer `acuracy`; did you mean `accuracy`?",
        "13:10: outputs.model: folder `models` does not exist",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: is empty"),
        ("# nothing\n", "1:1: is empty"),
        ("- a\n- b\n", '1:1: `["a", "b"]` is not a mapping of keys to values'),
        ("3\n", "1:1: `3` is not a mapping of keys to values"),
        ("estimator: {class: a.B\nsearch: 1\n", "2:7: is not valid YAML: expected ',' or '}', but got ':'"),
        ("cv: 3\n\tscoring: f1\n", "2:1: a tab cannot indent: use spaces"),
        ("cv: 3\n  scoring: f1\n", "2:10: a second `:` in one line, or a wrong indentation"),
        ("cv: *folds\n", "1:5: is not valid YAML: found undefined alias 'folds'"),
        ("cv: 3\n---\ncv: 4\n", "2:1: a second document begins here: a job file is one"),
        (
            "cv: !!python/object/apply:os.system [exit]\n",
            "1:5: `!!python/object/apply:os.system` is not allowed: a job file holds plain values",
        ),
        ("cv: \x07\n", "1:5: character `\\x07` is not allowed"),
        ("cv: &folds [*folds]\n", "1:1: is nested too deeply, or contains itself"),
        ("cv: 2026-13-45\n", "1:1: a value cannot be read: month must be in 1..12"),
    ],
)
def test_text(folder: Path, text: str, said: str) -> None:
    (problem,) = _problems(text)
    assert problem.startswith(said)


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`nope.yaml` does not exist$"):
        read_job(Path("nope.yaml"))


def test_a_file_that_is_not_text(folder: Path) -> None:
    Path("job.yaml").write_bytes(b"cv: \xff\xfe")
    with pytest.raises(ConfigError, match=r"^`job.yaml` is not UTF-8 text: byte 4 cannot be read$"):
        read_job(Path("job.yaml"))


def test_a_folder_is_not_a_job(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`.` cannot be read: is a directory$"):
        read_job(Path())


def test_every_missing_section_is_named(folder: Path) -> None:
    sections = ("estimator", "data", "outputs")
    assert _problems("scoring: f1\n") == [f"1:1: `{name}` is missing" for name in sections]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        # form: keys
        ({"space": ""}, ["1:1: `space` is missing"]),
        ({"search": "", "data": "data: {path: data.csv, target: y, groups: site}"}, [
            "2:1: space: belongs to a `search`: give one, or leave this out for a single fit",
            "3:35: data.groups: belongs to the folds of a `search`",
            "5:1: cv: belongs to a `search`: a single fit is scored on the rows of `holdout`",
            "6:31: outputs.table: belongs to a `search`: a single fit has only a `model`",
        ]),
        ({"cv": "cv: 3\nholdout: 0.5"}, [
            "7:1: holdout: belongs to a single fit: a `search` scores on its folds"
        ]),
        ({"search": "", "space": "", "cv": "holdout: 1", "outputs": "outputs: {model: m.joblib}"}, [
            "4:10: holdout: `1` is not a fraction of the rows such as `0.25`, or `0` for none"
        ]),
        ({"cv": "csv: 3"}, ["6:1: csv: unknown key; did you mean `cv`?"]),
        ({"cv": "cv: 3\ncv: 4"}, ["7:1: cv: `cv` is given twice, first in line 6"]),
        (
            {"estimator": "estimator: {clas: sklearn.svm.SVC}"},
            ["1:1: estimator: `class` is missing", "1:13: estimator.clas: unknown key; did you mean `class`?"],
        ),
        ({"outputs": "outputs:\n  modl: x.joblib"}, ["8:3: outputs.modl: unknown key; did you mean `model`?"]),
        ({"outputs": "outputs: {}"}, ["7:1: outputs: is empty: give `model`, `table` or both"]),
        ({"data": "data: {loader: load_iris, target: y}"}, [
            "4:27: data.target: `target` belongs to data from a `path`, not to a `loader`"
        ]),
        ({"data": "data: {path: data.csv, target: y, loader: load_iris}"}, [
            "4:35: data.loader: data is either a `path` or a `loader`"
        ]),
        # form: types
        ({"estimator": "estimator: sklearn.svm.SVC"}, [
            ("1:12: estimator: `sklearn.svm.SVC` is not a mapping with `class` and `parameters`, or a list of such "
            "steps; write `class: sklearn.svm.SVC`")
        ]),
        ({"estimator": "estimator: {class: SVC}"}, [
            "1:20: estimator.class: `SVC` is not an import path such as `sklearn.svm.SVC`"
        ]),
        ({"estimator": "estimator: []"}, ["1:12: estimator: is empty"]),
        ({"estimator": "estimator: {class: sklearn.svm.SVC, parameters: [C]}"}, [
            '1:49: estimator.parameters: `["C"]` is not a mapping of keys to values'
        ]),
        ({"estimator": "estimator: {class: sklearn.svm.SVC, parameters: {1: 2}}"}, [
            "1:50: estimator.parameters[1]: `1` is not a name: names are text"
        ]),
        ({"search": "search:"}, ["2:8: search: an empty value is not a mapping with the search's `kind`"]),
        ({"search": "search: {refit: true}"}, ["2:1: search: `kind` is missing"]),
        ({"search": "search: {kind: gird}"}, [
            ("2:16: search.kind: `gird` is not one of `grid`, `random`, `halving-grid`, `halving-random`; "
            "did you mean `grid`?")
        ]),
        ({"search": "search: {kind: random, n_iter: ten, random_state: -1}"}, [
            "2:32: search.n_iter: `ten` is not a whole number of at least 1",
            "2:51: search.random_state: `-1` is not a whole number from 0 to 4294967295, or `null`",
        ]),
        ({"search": "search: {kind: grid, factor: 3}"}, [
            "2:22: search.factor: `grid` has no `factor`: it belongs to `halving-grid` and `halving-random`"
        ]),
        ({"search": "search: {kind: halving-grid, factor: 1}"}, [
            "2:38: search.factor: `1` is not a number above 1"
        ]),
        ({"space": "space: {C: 1}"}, [
            "3:12: space.C: `1` is not a list of values or a distribution; write `[1]`"
        ]),
        ({"space": "space: {C: []}"}, ["3:12: space.C: `[]` is not a list of at least one value"]),
        ({"space": "space: {}"}, ["3:8: space: is empty"]),
        ({"space": "space: [{C: [1]}, {}]"}, ["3:19: space[1]: is empty"]),
        ({"search": "search: {kind: random}", "space": "space: {C: {unifrom: [1, 2]}}"}, [
            '3:12: space.C: `{"unifrom": [1, 2]}` is not a list of values or a distribution; did you mean `uniform`?'
        ]),
        ({"search": "search: {kind: random}", "space": "space: {C: {loguniform: [0, 1]}}"}, [
            "3:25: space.C.loguniform: `[0, 1]` is not two numbers above 0, the smaller one first"
        ]),
        ({"cv": "cv: 1"}, ["6:5: cv: `1` is not a whole number of at least 2, or a splitter"]),
        ({"data": "data: {path: data.xls, target: y}"}, [
            ("4:14: data.path: `data.xls` is not a path or an address that ends with `.csv` or `.csv.gz` or "
            "`.parquet`, or that of a folder, or a list of them"),
            "4:14: data.path: `data.xls` does not exist",
        ]),
        ({"outputs": "outputs: {model: best.pkl, table: x.csv}"}, [
            "7:18: outputs.model: `best.pkl` is not a path that ends with `.joblib`"
        ]),
        # meaning: estimator
        ({"estimator": "estimator: {class: no_such_package.Model}"}, [
            "1:20: estimator.class: package `no_such_package` is not installed"
        ]),
        ({"estimator": "estimator: {class: sklearn.smv.SVC}"}, [
            "1:20: estimator.class: package `sklearn` has no module `smv`; did you mean `svm`?"
        ]),
        ({"estimator": "estimator: {class: sklearn.svm.l1_min_c}"}, [
            "1:20: estimator.class: `sklearn.svm.l1_min_c` cannot be used here: it is not a class"
        ]),
        ({"estimator": "estimator: {class: numpy.ndarray}"}, [
            "1:20: estimator.class: `numpy.ndarray` cannot be used here: it is not an estimator: it has no `fit`"
        ]),
        ({"estimator": "estimator: {class: sklearn.svm.SVC, parameters: {c: 1}}"}, [
            "1:50: estimator.parameters.c: `SVC` has no parameter `c`; did you mean `C`?"
        ]),
        ({"estimator": "estimator: {class: sklearn.svm.SVC, parameters: {kernl: rbf, C: -1}}"}, [
            "1:50: estimator.parameters.kernl: `SVC` has no parameter `kernl`; did you mean `kernel`?",
            "1:65: estimator.parameters.C: `-1` is not a float in the range (0.0, inf]",
        ]),
        ({"estimator": "estimator: {class: sklearn.multiclass.OneVsRestClassifier}", "space": "space: {n_jobs: [1]}"}, [
            "1:1: estimator.parameters: `estimator` is missing"
        ]),
        (
            {
                "estimator": (
                    "estimator: {class: sklearn.multiclass.OneVsRestClassifier, "
                    "parameters: {estimator: {class: sklearn.svm.SCV}}}"
                ),
                "space": "space: {n_jobs: [1]}",
            },
            [
                "1:92: estimator.parameters.estimator.class: module `sklearn.svm` has no `SCV`; did you mean `SVC`?",
            ],
        ),
        ({"estimator": "estimator: [{class: sklearn.svm.SVC}, {class: sklearn.svm.SVC}]",
          "space": "space: {svc-2__C: [1]}"}, [
            "1:21: estimator[0].class: `sklearn.svm.SVC` cannot be used here: only the last step may lack a `transform`"
        ]),
        # meaning: space
        ({"space": "space: {c: [1], gama: [1]}"}, [
            "3:9: space.c: `SVC` has no parameter `c`; did you mean `C`?",
            "3:17: space.gama: `SVC` has no parameter `gama`; did you mean `gamma`?",
        ]),
        ({"estimator": "estimator: [{class: sklearn.svm.SVC}]"}, [
            "3:9: space.C: the pipeline has no parameter `C`; did you mean `svc__C`?"
        ]),
        ({"space": "space: {C: [1, 1e-3, -5]}"}, [
            "3:22: space.C[2]: `-5` is not a float in the range (0.0, inf]"
        ]),
        ({"space": "space: {C: {uniform: [1, 2]}}"}, [
            "3:12: space.C: a `grid` search does not accept a distribution; write a list of values"
        ]),
        ({"space": "space: {C: {choice: [1, 2]}}"}, [
            "3:12: space.C: a `grid` search does not accept a distribution; write its values as a list"
        ]),
        ({"search": "search: {kind: random}", "space": "space: {degree: {uniform: [1, 4]}}"}, [
            "3:27: space.degree.uniform: can draw `2.5`, which is not an int in the range [0, inf)"
        ]),
        ({"space": "space: {kernel: [rbf, lin]}"}, [
            ("3:23: space.kernel[1]: `lin` is not a str among {'linear', 'poly', 'precomputed', 'rbf', 'sigmoid'} "
            "or a callable")
        ]),
        # meaning: search, scoring, folds
        ({"search": "search: {kind: grid, refit: false}"}, [
            "2:29: search.refit: no model is fitted with `refit: false`: leave out `outputs.model`"
        ]),
        ({"search": "search: {kind: halving-grid, resource: n_sampels}"}, [
            ("2:40: search.resource: `n_sampels` is neither `n_samples` nor a parameter of the estimator; "
            "did you mean `n_samples`?")
        ]),
        ({"search": "search: {kind: halving-grid, resource: max_iter}"}, [
            ("2:40: search.resource: `max_resources` is missing: `auto` is possible for `n_samples` only, "
            "not for `max_iter`")
        ]),
        ({"search": "search: {kind: halving-grid, resource: C, max_resources: 9}"}, [
            "2:40: search.resource: `C` cannot be in the parameter space too"
        ]),
        ({"scoring": "scoring: [accuracy, f1]"}, [
            "2:1: search.refit: with several scorers, name the one that chooses: `refit: accuracy`"
        ]),
        ({"scoring": "scoring: [accuracy, f2]", "search": "search: {kind: grid, refit: acuracy}"}, [
            "2:29: search.refit: `acuracy` is not among the scorers; did you mean `accuracy`?",
            "5:21: scoring[1]: unknown scorer `f2`",
        ]),
        ({"scoring": "scoring: [accuracy, f1]", "search": "search: {kind: halving-grid}"}, [
            "5:10: scoring: a `halving-grid` search takes one scorer"
        ]),
        ({"estimator": "estimator: {class: sklearn.cluster.DBSCAN}", "space": "space: {eps: [1]}", "scoring": ""}, [
            "1:1: estimator: `DBSCAN` has no score of its own: give `scoring`"
        ]),
        ({"cv": "cv: {class: sklearn.model_selection.KFold, parameters: {n_split: 3}}"}, [
            "6:57: cv.parameters.n_split: `KFold` has no parameter `n_split`; did you mean `n_splits`?"
        ]),
        ({"cv": "cv: {class: sklearn.svm.SVC}"}, [
            "6:13: cv.class: `sklearn.svm.SVC` cannot be used here: it is not a splitter: it has no `split`"
        ]),
        ({"cv": "cv: {class: sklearn.model_selection.GroupKFold}"}, [
            "6:13: cv.class: `GroupKFold` splits by groups: name them in `data.groups`"
        ]),
        ({"cv": "cv: {class: sklearn.model_selection.ShuffleSplit}", "search": "search: {kind: halving-grid}"}, [
            "6:1: cv.parameters: a `halving-grid` search needs the same folds each time: give `random_state`"
        ]),
        # meaning: data and outputs
        ({"data": "data: {loader: load_digit}"}, [
            ("4:16: data.loader: `sklearn.datasets` has no loader of samples and targets called `load_digit`; "
            "did you mean `load_digits`?")
        ]),
        ({"data": "data: {loader: load_digits, parameters: {n_clas: 3, return_X_y: true}}"}, [
            "4:42: data.parameters.n_clas: `load_digits` has no parameter `n_clas`; did you mean `n_class`?",
            "4:53: data.parameters.return_X_y: is always true in a job: leave it out",
        ]),
        ({"data": "data: {path: data.csv, target: z, features: [a, c, a, y]}"}, [
            "4:32: data.target: `data.csv` has no column `z`",
            "4:49: data.features[1]: `data.csv` has no column `c`",
            "4:52: data.features[2]: `a` is listed twice",
        ]),
        ({"data": "data: {path: data.csv, target: y, features: [y], groups: sites}"}, [
            "4:46: data.features[0]: `y` is the target",
            "4:58: data.groups: `data.csv` has no column `sites`; did you mean `site`?",
        ]),
        ({"outputs": "outputs: {table: no/such/results.csv}"}, [
            "7:18: outputs.table: folder `no/such` does not exist"
        ]),
        ({"outputs": "outputs: {model: ~nosuchuser/m.joblib, table: no/results.csv}"}, [
            "7:18: outputs.model: `~nosuchuser/m.joblib` is not a path: there is no user `nosuchuser` on this machine",
            "7:47: outputs.table: folder `no` does not exist",
        ]),
        ({"data": "data: {path: ~nosuchuser/x.csv, target: y}"}, [
            "4:14: data.path: `~nosuchuser/x.csv` is not a path: there is no user `nosuchuser` on this machine"
        ]),
        ({"data": "data: {path: ~nosuchuser/x.csv}"}, [
            "4:1: data: `target` is missing",
            "4:14: data.path: `~nosuchuser/x.csv` is not a path: there is no user `nosuchuser` on this machine",
        ]),
        ({"outputs": "outputs: {table: data.csv}"}, [
            "7:18: outputs.table: `data.csv` is the data file: it would be overwritten"
        ]),
    ],
)  # fmt: skip
def test_problems_and_their_places(folder: Path, sections: dict[str, str], said: list[str]) -> None:
    assert _problems(_with(**sections)) == said


@pytest.mark.parametrize(
    "sections",
    [
        {"search": "search: {kind: random, n_iter: 3}", "space": "space: {C: {loguniform: [1e-3, 1e3]}}"},
        {"search": "search: {kind: random}", "space": "space: {gamma: {uniform: [0, 1]}, kernel: {choice: [rbf]}}"},
        {"search": "search: {kind: halving-random, n_candidates: 4, min_resources: 2, factor: 2.5}"},
        {"search": "search: {kind: halving-grid, aggressive_elimination: true, random_state: null}"},
        {"search": "search: {kind: grid, error_score: .nan}"},
        {"search": "search: {kind: grid, refit: f1}", "scoring": "scoring: [accuracy, f1]"},
        {"search": "search: {kind: grid, refit: false}", "outputs": "outputs: {table: results.json}"},
        {"scoring": ""},
        {"search": "", "space": "", "cv": "", "outputs": "outputs: {model: m.joblib}"},
        {"search": "", "space": "", "cv": "holdout: 0", "outputs": "outputs: {model: m.joblib}"},
        {"data": "data: {path: [data.csv, 'd*.csv'], target: y}"},
        {"scoring": "scoring: null"},
        {"cv": ""},
        {"cv": "cv: {class: sklearn.model_selection.GroupKFold, parameters: {n_splits: 2}}",
         "data": "data: {path: data.csv, target: y, groups: site}"},
        {"data": "data: {path: data.csv, target: y, features: [b, a]}"},
        {"data": "data: {loader: make_classification, parameters: {n_samples: 50}}"},
        {"space": "space: [{kernel: [rbf], gamma: [1e-3, scale]}, {kernel: [linear]}]"},
        {"estimator": "estimator: [{class: sklearn.decomposition.PCA}, {name: m, class: sklearn.svm.SVC}]",
         "space": "space: {pca: [passthrough, {class: sklearn.decomposition.TruncatedSVD}], m__C: [1]}"},
        {"estimator": "estimator: &svc {class: sklearn.svm.SVC, parameters: {<<: {C: 1}, C: 2}}"},
    ],
)  # fmt: skip
def test_what_is_sound_is_taken(folder: Path, sections: dict[str, str]) -> None:
    Path("job.yaml").write_text(_with(**sections))
    read_job(Path("job.yaml"))


def test_numbers_with_an_exponent_are_numbers(folder: Path) -> None:
    Path("job.yaml").write_text(_with(space="space: {C: [1e-3, 1E2, 2.5e+1, .5e1, 1.0e-1]}"))
    assert read_job(Path("job.yaml")).space == {"C": (0.001, 100.0, 25.0, 5.0, 0.1)}


def test_a_mapping_that_is_merged_twice_repeats_no_key(folder: Path) -> None:
    text = "space:\n  - &base\n    <<: {C: [1]}\n    C: [2]\n  - *base\n"
    Path("job.yaml").write_text(_with(space=text.rstrip()))
    assert read_job(Path("job.yaml")).space == ({"C": (2,)}, {"C": (2,)})


def test_modules_beside_the_file_are_imported_and_forgotten(folder: Path) -> None:
    Path("my_models.py").write_text("from sklearn.svm import SVC\nclass Mine(SVC):\n    pass\n")
    Path("job.yaml").write_text(_with(estimator="estimator: {class: my_models.Mine}"))
    before = list(sys.path)
    read_job(Path("job.yaml"))
    assert sys.path == before
    assert "my_models" not in sys.modules


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def (", "SyntaxError: "),
    ],
)
def test_a_module_that_fails_is_told_from_one_that_is_absent(folder: Path, module: str, said: str) -> None:
    Path("broken_models.py").write_text(module)
    (problem,) = _problems(_with(estimator="estimator: {class: broken_models.Mine}"))
    assert problem.startswith(f"1:20: estimator.class: importing `broken_models` failed: {said}")


def test_reading_runs_no_module_where_the_path_is_no_identifier(folder: Path) -> None:
    (problem,) = _problems(_with(estimator='estimator: {class: "os.system(1)"}'))
    assert "is not an import path" in problem


def test_no_module_of_pythons_own_is_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    for path in ("os.system", "this.Poem"):
        (problem,) = _problems(_with(estimator=f"estimator: {{class: {path}}}"))
        assert "is part of Python's standard library, which has no estimators, splitters or distributions" in problem
    assert "this" not in sys.modules


BAGGING = "estimator: {class: sklearn.ensemble.BaggingClassifier, parameters: {estimator: %s}}"


@pytest.mark.parametrize(
    "sections",
    [
        {"estimator": BAGGING % "{class: planted.Ran}", "space": "space: {n_estimators: [1]}"},
        {"estimator": BAGGING % "{class: planted.Ran, parameters: {args: [touch, ran]}}", "space": ""},
        {"estimator": BAGGING % "{tuple: [{class: planted.Ran}]}", "space": "space: {n_estimators: [1]}"},
        {"space": "space: {C: [{class: planted.Ran}]}"},
        {"data": "data: {loader: load_digits, parameters: {n_class: {class: planted.Ran}}}"},
        {"cv": "cv: {class: planted.Ran}"},
        {"estimator": "estimator: {class: planted.Ran}"},
    ],
)
def test_what_is_no_part_of_an_estimator_is_never_built(
    folder: Path, sections: dict[str, str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class of an installed package: building one runs code of its author's with the file's words."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / "planted.py").write_text(
        "from pathlib import Path\nclass Ran:\n    def __init__(self, **_):\n        Path('ran').touch()\n"
    )
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.delitem(sys.modules, "planted", raising=False)
    problems = _problems(_with(**sections))
    assert any("`planted.Ran` cannot be used here: " in problem for problem in problems)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "part",
    [
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.svm.SVC",
        "sklearn.compose.make_column_selector",
        "sklearn.model_selection.KFold",
        "own_part.Own",
    ],
)
def test_parts_of_estimators(folder: Path, part: str) -> None:
    Path("own_part.py").write_text("class Own:\n    pass\n")
    held = f"{{class: sklearn.preprocessing.FunctionTransformer, parameters: {{kw_args: {{part: {{class: {part}}}}}}}}}"
    svc = "{name: svc, class: sklearn.svm.SVC}"
    Path("job.yaml").write_text(_with(estimator=f"estimator: [{held}, {svc}]", space="space: {svc__C: [1]}"))
    read_job(Path("job.yaml"))


def test_columns_come_from_the_schema_alone(folder: Path) -> None:
    frame = pandas.DataFrame({"a": [1], "y": [2]}, index=pandas.Index([7], name="id"))
    frame.to_parquet("data.parquet")
    assert table_of(files_of(["data.parquet"], folder)).names == ["a", "y"]
    Path("damaged.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ConfigError, match=r"damaged.parquet` cannot be read: "):
        table_of(files_of(["damaged.parquet"], folder))


def test_paths_are_beside_the_job_file(tmp_path: Path) -> None:
    assert resolve_path(tmp_path, "x/y.csv") == tmp_path / "x/y.csv"
    assert resolve_path(tmp_path, "/data/y.csv") == Path("/data/y.csv")
    assert resolve_path(tmp_path, "~/y.csv") == Path.home() / "y.csv"


def test_the_folder_leaves_the_path_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), importable_from(tmp_path):
        raise ZeroDivisionError
    assert str(tmp_path) not in sys.path
