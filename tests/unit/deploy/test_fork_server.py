"""Test the variables of the process that this machine's workers are forked from."""

from dask import config

from skjob.config.hash_seed import SEED
from skjob.deploy.fork_server import ENVIRONMENT, SET_BY_SKJOB, SHARES_FILES, process_environment
from skjob.engine.fidelity.effects.guard import FILES_VARIABLE


def test_it_sets_what_dask_sets_before_it_starts_a_worker() -> None:
    defaults = next(each for each in config.defaults if "distributed" in each)["distributed"]["nanny"]
    assert {name: str(value) for name, value in defaults["pre-spawn-environ"].items()} == ENVIRONMENT


def test_variables_of_the_users_stay_as_they_are() -> None:
    assert process_environment({"PYTHONHASHSEED": "3"})["PYTHONHASHSEED"] == "3"
    assert process_environment({"PYTHONHASHSEED": "random"})["PYTHONHASHSEED"] == SEED
    assert process_environment({"OMP_NUM_THREADS": "4", "HOME": "/home/me"}) == {
        **ENVIRONMENT,
        "PYTHONHASHSEED": SEED,
        **SHARES_FILES,
        "OMP_NUM_THREADS": "4",
        "HOME": "/home/me",
        SET_BY_SKJOB: "MALLOC_TRIM_THRESHOLD_ MKL_NUM_THREADS OPENBLAS_NUM_THREADS",
    }


def test_workers_know_that_they_share_the_programs_files() -> None:
    """The name is written twice, because an import would slow down each start."""
    assert set(SHARES_FILES) == {FILES_VARIABLE}
