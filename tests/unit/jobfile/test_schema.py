"""The values of a declared job: what they accept, and that the schema documents all of it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from skjob.jobfile.schema import DeclaredJob, Step, json_schema, step_names

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
