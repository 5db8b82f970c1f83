"""Which variables go to workers, and which of them a worker takes."""

import os
from pathlib import Path

import fsspec
import pytest
from fsspec import config

from skjob.run.program.storage_credentials import FAMILIES, Credentials, found, lacking

pytestmark = pytest.mark.unit

KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def test_only_what_leads_to_storage_is_found() -> None:
    others = {"AWS_PROFILE": "mine", "PATH": "/bin", "GITHUB_TOKEN": "x", "HOME": str(Path.home())}
    assert found({**KEYS, **others, "FSSPEC_S3_ANON": "true"}) == {**KEYS, "FSSPEC_S3_ANON": "true"}


@pytest.mark.parametrize(
    ("own", "taken"),
    [
        ({}, {**KEYS, "HF_TOKEN": "h"}),
        ({"HOME": "/tmp"}, {**KEYS, "HF_TOKEN": "h"}),
        ({"AWS_ROLE_ARN": "its own"}, {"HF_TOKEN": "h"}),
        ({"AWS_ACCESS_KEY_ID": "its own"}, {"HF_TOKEN": "h"}),
        ({"HF_TOKEN": "its own"}, KEYS),
    ],
)
def test_a_worker_keeps_what_it_has_of_a_kind(own: dict[str, str], taken: dict[str, str]) -> None:
    assert lacking({**KEYS, "HF_TOKEN": "h"}, own) == taken


def test_they_are_taken_away_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FAMILIES["AWS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "the worker's own")
    monkeypatch.delenv("FSSPEC_S3_KEY", raising=False)
    memory = fsspec.filesystem("memory")
    plugin = Credentials({**KEYS, "HF_TOKEN": "a run's", "FSSPEC_S3_KEY": "a run's"})
    before = dict(os.environ)
    plugin.setup(None)
    assert {name: value for name, value in os.environ.items() if before.get(name) != value} == {
        **KEYS,
        "FSSPEC_S3_KEY": "a run's",
    }
    assert config.conf["s3"]["key"] == "a run's"
    os.environ["AWS_SECRET_ACCESS_KEY"] = "what a task has set"
    plugin.teardown(None)
    assert os.environ.pop("AWS_SECRET_ACCESS_KEY") == "what a task has set"
    assert dict(os.environ) == before
    assert "key" not in config.conf.get("s3", {})
    assert fsspec.filesystem("memory") is not memory


def test_nothing_shows_the_values() -> None:
    plugin = Credentials({"AWS_SECRET_ACCESS_KEY": "very secret"})
    assert "very secret" not in f"{plugin!r} {plugin!s} {plugin.name}"
