"""The errors a user can meet: one exit status each, all documented, none of them a script's or a signal's."""

import base64
import json
import re
from urllib.parse import quote

import pytest

from skjob import errors
from skjob.errors import (
    INTERNAL_FAULT,
    INTERRUPTED,
    ConfigError,
    SkjobError,
    data_without_credentials,
    without_credentials,
    without_secrets,
)

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SkjobError) and kind is not SkjobError
    ),
    key=lambda kind: kind.exit_code,
)


def test_each_error_has_an_exit_status_of_its_own() -> None:
    assert [kind.exit_code for kind in KINDS if kind.__base__ is SkjobError] == list(range(120, 128))


def test_a_kind_of_an_error_ends_as_it_does() -> None:
    assert [kind.exit_code for kind in KINDS] == [kind.mro()[-5].exit_code for kind in KINDS]


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    documented = re.findall(r"[├└]── (\w+) +(\d+) ", errors.__doc__ or "")
    assert documented == [(kind.__name__, str(kind.exit_code)) for kind in KINDS]


def test_faults_and_signals_end_as_documented() -> None:
    assert (INTERNAL_FAULT, INTERRUPTED) == (127, 128 + 2)
    assert SkjobError("x").exit_code == INTERNAL_FAULT


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_its_message_and_its_hint(kind: type[SkjobError]) -> None:
    error = kind("no `x`", "make one")
    assert (error.message, error.hint, str(error)) == ("no `x`", "make one", "no `x`\nhint: make one")
    assert str(kind("no `x`")) == "no `x`"


def test_the_log_of_what_failed_stands_between_message_and_hint() -> None:
    assert str(SkjobError("it ended", "look", "one\ntwo\n")) == "it ended\n  | one\n  | two\nhint: look"


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        (["`a` is wrong"], "`a` is wrong"),
        (["`b` is wrong", "`a` is wrong"], "2 problems:\n  - `b` is wrong\n  - `a` is wrong"),
    ],
)
def test_problems_are_collected_in_the_order_found(problems: list[str], message: str) -> None:
    error = ConfigError.collect(problems, "fix them")
    assert (error.message, error.hint, error.exit_code) == (message, "fix them", 120)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`ftp://ann:secret@host/fits` is away", "`ftp://ann:****@host/fits` is away"),
        ("ftp://ann:sec@ret@host:21/fits", "ftp://ann:****@host:21/fits"),
        ("https://:secret@host", "https://:****@host"),
        ("https://ghp_0123456789abcdef@host/a and s3://b/c@d", "https://****@host/a and s3://b/c@d"),
        ("simplecache::sftp://ann:secret@host/x.csv", "simplecache::sftp://ann:****@host/x.csv"),
        ("https://h/x.csv?a=1&X-Amz-Signature=0af&b=2", "https://h/x.csv?a=1&X-Amz-Signature=****&b=2"),
        ("az://h/x?sig=0af%3D&se=9", "az://h/x?sig=****&se=9"),
        ('{"path": "https://h/x?token=0af", "b": 1}', '{"path": "https://h/x?token=****", "b": 1}'),
        ("sftp://ann@host/x, tls://127.0.0.1:8786, http://[::1]:80/a@b", None),
        ("ann:secret@host is no address; C:1@2", None),
    ],
)
def test_what_opens_an_address_is_not_shown(text: str, shown: str | None) -> None:
    assert without_credentials(text) == (text if shown is None else shown)


SECRET = 'pa"ss wörd\nthe second line of it\n'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"<{SECRET}>", "<****>"),
        (f"<{SECRET.strip()}>", "<****>"),
        (repr([SECRET]), "['****']"),
        (json.dumps({"a": SECRET}), '{"a": "****"}'),
        (json.dumps({"a": SECRET}, ensure_ascii=False), '{"a": "****"}'),
        (f"https://host/?password={quote(SECRET)}", "https://host/?password=****"),
        (f"Basic {base64.b64encode(SECRET.encode()).decode()}", "Basic ****"),
        ("the second line of it", "****"),
        ("the second line of something else", "the second line of something else"),
    ],
)
def test_a_hidden_value_is_not_shown_in_any_of_its_forms(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "_hidden", [])
    assert without_secrets(text) == text
    errors.hide(["the secret of another run", SECRET])
    assert without_secrets(text) == shown
    assert data_without_credentials({"logs": [text, "other"]}) == {"logs": [shown, "other"]}
    assert f"{SkjobError(text, text, text)!r}" == f"{SkjobError(shown)!r}"


def test_no_error_shows_what_opens_an_address() -> None:
    address = "ftp://ann:secret@host"
    error = SkjobError(address, f"try {address}", f"log of {address}")
    problems = ConfigError.collect([address, address], address)
    assert "secret" not in f"{error} {error!r} {error.log} {problems} {problems!r} {problems.problems} {problems.hint}"
    assert "secret" not in f"{ConfigError.collect([address]).problems}"
