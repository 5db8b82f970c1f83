"""What the values of a declared job are built into: estimators, distributions, spaces, data sets."""

from typing import Any

import pytest

from skjob.jobfile.build import (
    ImportProblem,
    build_distribution,
    build_estimator,
    build_space,
    build_value,
    dataset_loaders,
    import_named,
    load_dataset,
)
from skjob.jobfile.schema import Component, Dataset, DeclaredJob, Step
from skjob.jobfile.schema_search import Choice, LogUniform, RandomInteger, Uniform

pytestmark = pytest.mark.unit


def _job(space: Any) -> DeclaredJob:
    content = {
        "estimator": {"class": "sklearn.svm.SVC"},
        "search": {"kind": "grid"},
        "space": space,
        "data": {"loader": "load_digits"},
        "outputs": {"table": "results.csv"},
    }
    return DeclaredJob.model_validate(content)


@pytest.mark.parametrize("draw", [Uniform(uniform=(2, 3)), LogUniform(loguniform=(2, 3))])
def test_real_distributions_stay_within_their_bounds(draw: Uniform | LogUniform) -> None:
    values = build_distribution(draw).rvs(200, random_state=0)
    assert 2 <= values.min() < values.max() <= 3


def test_whole_numbers_leave_the_end_out() -> None:
    assert set(build_distribution(RandomInteger(randint=(2, 4))).rvs(50, random_state=0)) == {2, 3}


def test_a_choice_is_a_list() -> None:
    assert build_distribution(Choice(choice=(1, "a", {"tuple": [1, 2]}))) == [1, "a", (1, 2)]


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
    assert build_space(_job({"C": [1, 2]})) == {"C": [1, 2]}
    assert build_space(_job([{"C": [1]}, {"kernel": ["linear"]}])) == [{"C": [1]}, {"kernel": ["linear"]}]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("skleran.svm.SVC", "package `skleran` is not installed"),
        ("no_such_package.Thing", "package `no_such_package` is not installed"),
        ("sklearn.smv.SVC", "package `sklearn` has no module `smv`; did you mean `svm`?"),
        ("sklearn.svm.SCV", "module `sklearn.svm` has no `SCV`; did you mean `SVC`?"),
        ("sklearn.svm.deep.Thing", "package `sklearn.svm` has no module `deep`"),
        ("json.decoder.JSONDecoder", "`json.decoder` is part of Python's standard library"),
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


def test_a_data_set_is_loaded_with_its_parameters() -> None:
    features, target = load_dataset(Dataset(loader="load_digits", parameters={"n_class": 3}))
    assert (features.shape, set(target)) == ((537, 64), {0, 1, 2})
    features, target = load_dataset(Dataset(loader="make_blobs", parameters={"n_samples": 7}))
    assert (features.shape, target.shape) == ((7, 2), (7,))
