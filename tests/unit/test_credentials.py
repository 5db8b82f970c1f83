"""Which variables go to workers, and which of them a worker takes."""

from pathlib import Path

import pytest

from skjob.data.credentials import Credentials, found, lacking

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


def test_nothing_shows_the_values() -> None:
    plugin = Credentials({"AWS_SECRET_ACCESS_KEY": "very secret"})
    assert "very secret" not in f"{plugin!r} {plugin!s} {plugin.name}"
