"""The values of a declared job: what they take, what they become, and that the schema documents all of it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from skjob.jobfile.schema import (
    Choice,
    Component,
    DeclaredJob,
    ImportProblem,
    LogUniform,
    RandomInteger,
    Step,
    Uniform,
    build_estimator,
    build_space,
    build_value,
    dataset_loaders,
    import_named,
    json_schema,
    step_names,
)
from skjob.utils.suggestions import did_you_mean

pytestmark = pytest.mark.unit


def _job(**sections: Any) -> DeclaredJob:
    content = {
        "estimator": {"class": "sklearn.svm.SVC"},
        "search": {"kind": "grid"},
        "space": {"C": [1, 10]},
        "data": {"loader": "load_digits"},
        "outputs": {"table": "results.csv"},
    }
    return DeclaredJob.model_validate(content | sections)


def _steps(*steps: str) -> list[Step]:
    """`name=Class` or `Class`."""
    split = [step.rpartition("=") for step in steps]
    return [Step.model_validate({"name": name or None, "class": f"p.{kind}"}) for name, _, kind in split]


@pytest.mark.parametrize(
    ("steps", "names"),
    [
        (["StandardScaler", "SVC"], ["standardscaler", "svc"]),
        (["scale=StandardScaler", "SVC"], ["scale", "svc"]),
        (["PCA", "PCA", "SVC"], ["pca-1", "pca-2", "svc"]),
        (["PCA", "first=PCA", "SVC"], ["pca", "first", "svc"]),
    ],
)
def test_steps_are_called_as_make_pipeline_calls_them(steps: list[str], names: list[str]) -> None:
    assert step_names(_steps(*steps)) == names


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("gird", ["grid", "random"], "; did you mean `grid`?"),
        ("SCV", ["SVR", "SVC"], "; did you mean `SVC`?"),
        ("c", ["C", "cache_size"], "; did you mean `C`?"),
        ("C", ["svc", "svc__C", "svc__gamma"], "; did you mean `svc__C`?"),
        ("unrelated", ["grid", "random"], ""),
        (3, ["grid"], ""),
    ],
)
def test_nearest_name(name: object, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said


def test_defaults() -> None:
    job = _job()
    assert (job.cv, job.scoring, job.scorers, job.search.refit) == (5, None, (), True)
    assert _job(search={"kind": "random"}).search.model_dump() == {
        "kind": "random",
        "n_iter": 10,
        "random_state": 0,
        "refit": True,
        "error_score": "nan",
        "return_train_score": False,
    }


def test_a_job_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _job().cv = 3


@pytest.mark.parametrize(
    "sections",
    [
        {"cv": "5"},
        {"cv": True},
        {"search": {"kind": "random", "n_iter": 2.0}},
        {"search": {"kind": "grid", "refit": 1}},
        {"search": {"kind": "grid", "return_train_score": "yes"}},
        {"data": {"path": "x.csv", "target": 3}},
        {"space": {"C": {"randint": [0.5, 2]}}},
        {"space": {"C": {"loguniform": [0, 2]}}},
        {"space": {"C": {"uniform": [0, float("inf")]}}},
        {"space": {"C": "abc"}},
        {"estimator": {"class": "__import__('os')"}},
        {"estimator": {"class": "os.system()"}},
    ],
)
def test_nothing_is_converted_and_nothing_else_is_taken(sections: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _job(**sections)


@pytest.mark.parametrize("draw", [Uniform(uniform=(2, 3)), LogUniform(loguniform=(2, 3))])
def test_real_distributions_stay_within_their_bounds(draw: Uniform | LogUniform) -> None:
    values = draw.build().rvs(200, random_state=0)
    assert 2 <= values.min() < values.max() <= 3


def test_whole_numbers_leave_the_end_out() -> None:
    assert set(RandomInteger(randint=(2, 4)).build().rvs(50, random_state=0)) == {2, 3}


def test_a_choice_is_a_list() -> None:
    assert Choice(choice=(1, "a", {"tuple": [1, 2]})).build() == [1, "a", (1, 2)]


def test_values_are_built_at_any_depth() -> None:
    built = build_value([{"class": "sklearn.svm.SVC", "parameters": {"C": 7}}, {0: {"tuple": [1, [2]]}}])
    assert [built[0].C, built[1]] == [7, {0: (1, [2])}]


def test_a_mapping_that_only_resembles_a_component_stays_one() -> None:
    weights = {"class": 1, "other": 2}
    assert build_value(weights) == weights


def test_estimator_and_pipeline() -> None:
    one = Component.model_validate({"class": "sklearn.svm.SVC", "parameters": {"C": 2}})
    assert build_estimator(one).C == 2
    pipeline = build_estimator(
        (Step.model_validate({"class": "sklearn.preprocessing.StandardScaler"}), Step(name="last", **one.model_dump()))
    )
    assert [name for name, _ in pipeline.steps] == ["standardscaler", "last"]
    assert pipeline.get_params()["last__C"] == 2


def test_space_of_one_and_of_several_mappings() -> None:
    assert build_space(_job(space={"C": [1, 2]})) == {"C": [1, 2]}
    assert build_space(_job(space=[{"C": [1]}, {"kernel": ["linear"]}])) == [{"C": [1]}, {"kernel": ["linear"]}]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("skleran.svm.SVC", "package `skleran` is not installed"),
        ("no_such_package.Thing", "package `no_such_package` is not installed"),
        ("sklearn.smv.SVC", "package `sklearn` has no module `smv`; did you mean `svm`?"),
        ("sklearn.svm.SCV", "module `sklearn.svm` has no `SCV`; did you mean `SVC`?"),
        ("sklearn.svm.deep.Thing", "package `sklearn.svm` has no module `deep`"),
        ("json.decoder.JSONDecoder", "`json.decoder` is a module of Python's own"),
    ],
)
def test_why_an_import_path_leads_nowhere(path: str, said: str) -> None:
    with pytest.raises(ImportProblem) as caught:
        import_named(path)
    assert str(caught.value).startswith(said)


def test_loaders_give_samples_and_targets() -> None:
    names = set(dataset_loaders())
    assert {"load_digits", "fetch_openml", "make_classification"} <= names
    assert not {"load_files", "load_svmlight_file", "make_biclusters", "get_data_home", "load_sample_image"} & names


def test_the_schema_is_plain_json_and_describes_every_key() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    silent = [
        f"{name}.{key}"
        for name, form in {"DeclaredJob": schema, **schema["$defs"]}.items()
        for key, value in form["properties"].items()
        if "description" not in value
    ]
    assert silent == []
    assert all(form["additionalProperties"] is False for form in [schema, *schema["$defs"].values()])
    assert schema["required"] == ["estimator", "data", "outputs"]
    assert schema["$defs"]["Component"]["required"] == ["class"]
