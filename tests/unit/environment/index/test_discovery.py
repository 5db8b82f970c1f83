"""Test where packages come from: the variables and files of uv and pip, and how they are sent."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from clocks import DEADLINE

from skjob.environment.index.discovery import MAX_SETTINGS_BYTES, index_settings
from skjob.environment.index.pip_config import pip_config_files
from skjob.environment.index.settings import Index, IndexSettings, public_address, unconfigured
from skjob.environment.index.uv_config import uv_config_files
from skjob.environment.skjob_source import skjob_archive
from skjob.errors import ConfigError

HINT = "fix the settings of uv and pip; `--env none` uses the image as it is and needs none"
A, B, C = "https://a.example/simple", "https://b.example/simple", "https://c.example/simple"
AUTHORITY = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----"


def _settings(
    tmp_path: Path, environ: Mapping[str, str] | None = None, pip: str | None = None, uv: str | None = None
) -> IndexSettings:
    """Return the settings from these variables and file contents, where nothing else exists."""
    files: dict[str, list[Path]] = {"pip.conf": [], "uv.toml": []}
    for name, content in (("pip.conf", pip), ("uv.toml", uv)):
        if content is not None:
            (tmp_path / name).write_text(content)
            files[name].append(tmp_path / name)
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return index_settings({"HOME": str(home), **(environ or {})}, tmp_path, files["pip.conf"], files["uv.toml"])


def _problem(tmp_path: Path, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        _settings(tmp_path, *args, **kwargs)
    assert caught.value.hint == HINT
    return caught.value.message


# ------------------------------------------------------------------------------------------------- pip


@pytest.mark.parametrize("environ", [{}, {"PIP_INDEX_URL": ""}, {"PIP_QUIET": "1"}, {"UV_CACHE_DIR": "/c"}])
def test_nothing_is_said_where_nothing_is_set(tmp_path: Path, environ: dict[str, str]) -> None:
    settings = _settings(tmp_path, environ, pip="[global]\nquiet = 1\n", uv="offline = false\n")
    assert settings == IndexSettings()
    assert settings.files() == {}
    assert (settings.uv_variables(tmp_path), settings.pip_variables(tmp_path)) == ({}, {})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PIP_INDEX_URL": A}, {"indexes": (Index(A, default=True),)}),
        (
            {"PIP_INDEX_URL": A, "PIP_EXTRA_INDEX_URL": f"{B}\n {C}"},
            {"indexes": (Index(B), Index(C), Index(A, default=True)), "strategy": "unsafe-best-match"},
        ),
        ({"PIP_FIND_LINKS": A, "PIP_NO_INDEX": "true"}, {"find_links": (A,), "no_index": True}),
        ({"PIP_TRUSTED_HOST": "a.example b.example:80"}, {"insecure_hosts": ("a.example", "b.example:80")}),
        ({"PIP_PROXY": "p:1"}, {"proxies": {"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1"}}),
    ],
)
def test_what_pips_variables_say(tmp_path: Path, environ: dict[str, str], expected: dict[str, Any]) -> None:
    assert _settings(tmp_path, environ) == IndexSettings(**expected)


def test_what_pips_files_say_the_last_one_first_and_the_variables_before_all(tmp_path: Path) -> None:
    weak, strong = tmp_path / "weak.conf", tmp_path / "strong.conf"
    weak.write_text(f"[global]\nindex_url = {A}\nproxy = weak%20proxy\n[install]\nfind-links = {C}\n")
    strong.write_text(f"[global]\nindex-url = {B}\nfind-links = {A}\n[install]\ntrusted-host =\n    one\n    two\n")
    environ = {"HOME": str(tmp_path)}
    found = index_settings(environ, tmp_path, [weak, tmp_path / "absent.conf", strong], [])
    assert found == IndexSettings(
        indexes=(Index(B, default=True),),
        find_links=(C,),  # a command's section takes precedence over the global one, whichever the file
        insecure_hosts=("one", "two"),
        proxies={"HTTPS_PROXY": "weak%20proxy", "HTTP_PROXY": "weak%20proxy"},
    )
    environ |= {"PIP_INDEX_URL": C, "PIP_PROXY": "strong:1"}
    found = index_settings(environ, tmp_path, [weak, strong], [])
    assert (found.indexes, found.proxies["HTTPS_PROXY"]) == ((Index(C, default=True),), "strong:1")


def test_the_files_that_pip_reads(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": "/x:/y"}
    shared = [Path("/x/pip/pip.conf"), Path("/y/pip/pip.conf"), Path("/etc/pip.conf")]
    users = [tmp_path / ".pip" / "pip.conf", tmp_path / ".config" / "pip" / "pip.conf"]
    site = Path(sys.prefix) / "pip.conf"
    if sys.platform == "darwin":
        shared = [Path("/Library/Application Support/pip/pip.conf")]
    assert pip_config_files(environ) == [*shared, *users, site]
    own = tmp_path / "own.conf"
    assert pip_config_files(environ | {"PIP_CONFIG_FILE": str(own)}) == [*shared, *users, site, own]
    own.touch()
    assert pip_config_files(environ | {"PIP_CONFIG_FILE": str(own)}) == [*shared, site, own]
    assert pip_config_files(environ | {"PIP_CONFIG_FILE": os.devnull}) == []


# ------------------------------------------------------------------------------------------------- uv


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"UV_DEFAULT_INDEX": A, "UV_INDEX_URL": B}, {"indexes": (Index(A, default=True),)}),
        (
            {"UV_INDEX_URL": A, "UV_INDEX": f"corp={B} {C}?a=b", "UV_EXTRA_INDEX_URL": C},
            {"indexes": (Index(B, "corp"), Index(f"{C}?a=b"), Index(C), Index(A, default=True))},
        ),
        ({"UV_FIND_LINKS": f"{A},{B}"}, {"find_links": (A, B)}),
        (
            {"UV_INDEX": A, "UV_INDEX_STRATEGY": "unsafe-first-match"},
            {"indexes": (Index(A),), "strategy": "unsafe-first-match"},
        ),
        ({"UV_INSECURE_HOST": "a.example b.example:1"}, {"insecure_hosts": ("a.example", "b.example:1")}),
    ],
)
def test_what_uvs_variables_say(tmp_path: Path, environ: dict[str, str], expected: dict[str, Any]) -> None:
    assert _settings(tmp_path, environ) == IndexSettings(**expected)


UV = f"""
index-strategy = "unsafe-first-match"
allow-insecure-host = ["i.example"]
find-links = ["https://links.example/", "wheels"]
https-proxy = "http://proxy.example"
no-proxy = ["n.example", "o.example"]

[[index]]
name = "corp"
url = "{A}"
ignore-error-codes = [403]

[[index]]
name = "folder"
url = "file:///srv/simple"

[[index]]
url = "https://flat.example/"
format = "flat"

[[index]]
url = "{B}"
default = true

[pip]
extra-index-url = ["{C}"]
"""


def test_what_uvs_file_says(tmp_path: Path) -> None:
    assert _settings(tmp_path, uv=UV) == IndexSettings(
        indexes=(Index(C), Index(A, "corp", ignored=(403,)), Index(B, default=True)),
        find_links=("https://links.example/", "https://flat.example/"),
        strategy="unsafe-first-match",
        insecure_hosts=("i.example",),
        proxies={"HTTPS_PROXY": "http://proxy.example", "NO_PROXY": "n.example,o.example"},
        left_out=("file:///srv/simple", "wheels"),
    )


def test_uvs_variables_go_before_its_files(tmp_path: Path) -> None:
    environ = {"UV_DEFAULT_INDEX": C, "UV_INDEX": "corp=https://other.example corp", "UV_INDEX_STRATEGY": "first-index"}
    found = _settings(tmp_path, environ, uv=UV)
    assert found.strategy == "first-index"
    assert found.indexes == (Index("https://other.example", "corp"), Index(C), Index(C, default=True))


def test_an_index_may_be_asked_for_by_the_name_it_has_in_a_file(tmp_path: Path) -> None:
    found = _settings(tmp_path, {"UV_DEFAULT_INDEX": "corp"}, uv=f'[[index]]\nname = "corp"\nurl = "{A}"\n')
    assert found.indexes == (Index(A, "corp", default=True),)


def test_an_index_for_chosen_packages_only_is_asked_for_all_after_the_fact(tmp_path: Path) -> None:
    """The project says which packages those are; pins are exact, so any index that has one is right."""
    found = _settings(tmp_path, uv=f'[[index]]\nurl = "{A}"\nexplicit = true\n')
    assert found == IndexSettings(indexes=(Index(A),), strategy="unsafe-best-match")


def test_the_files_that_uv_reads(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "inner"
    inner.mkdir(parents=True)
    shared = tmp_path / "shared" / "uv" / "uv.toml"
    shared.parent.mkdir(parents=True)
    shared.touch()
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "shared")}
    user = tmp_path / ".config" / "uv" / "uv.toml"
    assert uv_config_files(environ, inner) == [user, shared]

    (tmp_path / "uv.toml").touch()
    (tmp_path / "project" / "pyproject.toml").write_text("[tool.uv]\n")
    (inner / "pyproject.toml").write_text("[project]\n")
    assert uv_config_files(environ, inner) == [tmp_path / "project" / "pyproject.toml", user, shared]
    (inner / "pyproject.toml").write_text("no toml")
    assert uv_config_files(environ, inner) == [tmp_path / "project" / "pyproject.toml", user, shared]
    (tmp_path / "project" / "uv.toml").touch()
    assert uv_config_files(environ, inner) == [tmp_path / "project" / "uv.toml", user, shared]

    assert uv_config_files(environ | {"UV_CONFIG_FILE": "/own.toml"}, inner) == [Path("/own.toml")]
    assert uv_config_files(environ | {"UV_NO_CONFIG": "1"}, inner) == []


def test_a_projects_table_goes_before_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.uv]\nindex-strategy = "first-index"\nextra-index-url = ["{A}"]\n')
    user = tmp_path / "user.toml"
    user.write_text(f'index-strategy = "unsafe-best-match"\nextra-index-url = ["{B}"]\nindex-url = "{C}"\n')
    found = index_settings({"HOME": str(tmp_path)}, tmp_path, [], [tmp_path / "pyproject.toml", user])
    assert found == IndexSettings((Index(A), Index(B), Index(C, default=True)), strategy="first-index")


# ------------------------------------------------------------------------------------------------- both


def test_where_both_are_told_uvs_word_leads_setting_by_setting(tmp_path: Path) -> None:
    pip = {"PIP_INDEX_URL": A, "PIP_EXTRA_INDEX_URL": B, "PIP_TRUSTED_HOST": "pip.example", "PIP_PROXY": "pip:1"}
    found = _settings(tmp_path, pip, uv='https-proxy = "uv:1"\n')
    assert found == IndexSettings(
        (Index(B), Index(A, default=True)),
        strategy="unsafe-best-match",
        insecure_hosts=("pip.example",),
        proxies={"HTTPS_PROXY": "uv:1", "HTTP_PROXY": "pip:1"},
    )
    found = _settings(tmp_path, {**pip, "UV_INDEX": C, "UV_INSECURE_HOST": "uv.example"}, uv="")
    assert (found.indexes, found.strategy, found.insecure_hosts) == ((Index(C),), "", ("uv.example",))


@pytest.mark.parametrize(
    ("environ", "proxies"),
    [
        ({"HTTPS_PROXY": "u", "https_proxy": "l"}, {"HTTPS_PROXY": "u"}),
        (
            {"https_proxy": "l", "no_proxy": "n", "all_proxy": "a"},
            {"HTTPS_PROXY": "l", "NO_PROXY": "n", "ALL_PROXY": "a"},
        ),
        (
            {"HTTPS_PROXY": "u", "NO_PROXY": "n", "PIP_PROXY": "p"},
            {"HTTPS_PROXY": "p", "HTTP_PROXY": "p", "NO_PROXY": "n"},
        ),
    ],
)
def test_proxies(tmp_path: Path, environ: dict[str, str], proxies: dict[str, str]) -> None:
    assert _settings(tmp_path, environ) == IndexSettings(proxies=proxies)


@pytest.mark.parametrize("environ", [{"PIP_INDEX_URL": "/srv/simple"}, {"UV_DEFAULT_INDEX": "file:///srv/simple"}])
def test_a_default_index_that_pods_can_not_reach_is_not_replaced_by_the_public_one(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    found = _settings(tmp_path, environ)
    (place,) = environ.values()
    assert found == IndexSettings(no_index=True, left_out=(place,))
    assert found.notes() == [f"`{place}` is on this machine only: pods cannot install from it"]


# ------------------------------------------------------------------------------------------------- credentials


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"UV_INDEX_MY_CORP_USERNAME": "ann", "UV_INDEX_MY_CORP_PASSWORD": "p/w d"}, "https://ann:p%2Fw%20d@a.example/simple"),
        ({"UV_INDEX_MY_CORP_USERNAME": "a-token-of-some-length"}, "https://a-token-of-some-length@a.example/simple"),
        ({"UV_INDEX_OTHER_USERNAME": "ann"}, A),
    ],
)  # fmt: skip
def test_the_variables_of_a_named_index(tmp_path: Path, environ: dict[str, str], url: str) -> None:
    found = _settings(tmp_path, {"UV_INDEX": f"my-corp={A}", **environ})
    assert found.indexes == (Index(url, "my-corp"),)


NETRC = "machine a.example login ann password s3cret\nmachine other.example login eve password unasked-for\n"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("https://a.example/s", "https://ann:s3cret@a.example/s"),
        ("https://ann@a.example/s", "https://ann:s3cret@a.example/s"),
        ("https://bob@a.example/s", "https://bob@a.example/s"),
        ("https://ann:own@a.example/s", "https://ann:own@a.example/s"),
        ("https://b.example/s", "https://b.example/s"),
    ],
)
def test_netrc(tmp_path: Path, asked: str, given: str, named: bool) -> None:
    """Only for hosts of indexes."""
    (tmp_path / "home").mkdir()
    file = tmp_path / "mine" if named else tmp_path / "home" / ".netrc"
    file.write_text(NETRC)
    found = _settings(tmp_path, {"UV_INDEX": asked, **({"NETRC": str(file)} if named else {})})
    assert found.indexes == (Index(given),)
    assert not any(b"unasked-for" in content for content in found.files().values())


def test_a_broken_netrc_matters_only_where_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / ".netrc"
    file.write_text("machine a.example pass word\n")
    assert _settings(tmp_path, {"UV_INDEX": "https://ann:own@a.example/s"}).indexes
    assert _problem(tmp_path, {"UV_INDEX": A}) == f"the netrc file `{file}` cannot be read: bad follower token 'pass'"


SECRET = IndexSettings(
    indexes=(Index("https://ann:p%2Fw@a.example/s", "corp"), Index("https://glpat-0123456789abc@b.example/s")),
    find_links=("https://short:@c.example/w?signature=abc%3D",),
    proxies={"HTTPS_PROXY": "http://ann:proxyword@proxy.example", "HTTP_PROXY": "ann:bare@proxy.example:1"},
)


def test_secrets_are_known_in_each_form() -> None:
    assert SECRET.secrets() == {
        "p%2Fw", "p/w", "glpat-0123456789abc", "short", "signature=abc%3D", "signature=abc=", "signature%3Dabc%3D",
        "proxyword", "bare",
    }  # fmt: skip
    text = "GET https://ann:p%2Fw@a.example (password p/w) via http://ann:proxyword@proxy.example: glpat-0123456789abc"
    assert SECRET.redact(text) == (
        "GET https://ann:****@a.example (password ****) via http://ann:****@proxy.example: ****"
    )


def test_secrets_are_not_in_what_is_printed_of_the_value() -> None:
    assert not any(secret in repr(SECRET) for secret in SECRET.secrets())
    assert "Index('https://a.example/s', 'corp', default=False, ignored=())" in repr(SECRET)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("https://u:p@h.example:1/s?q=1#f", "https://h.example:1/s"), (A, A), ("https://[x/", ""), ("", "")],
)
def test_an_address_as_it_is_shown(url: str, expected: str) -> None:
    assert public_address(url) == expected


# ------------------------------------------------------------------------------------------------- trust


@pytest.fixture
def authorities(tmp_path: Path) -> dict[str, str]:
    """Create a certificate file for each way to name one, the strongest first."""
    names = ("SSL_CERT_FILE", "PIP_CERT", "file", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
    for name in names:
        (tmp_path / name).write_text(AUTHORITY.format(name))
    return {name: str(tmp_path / name) for name in names}


@pytest.mark.parametrize("first", range(6))
def test_the_certificate_authority_is_the_strongest_that_is_named(
    authorities: dict[str, str], tmp_path: Path, first: int
) -> None:
    named = dict(list(authorities.items())[first:])
    strongest = next(iter(named))
    cert = named.pop("file", None)
    found = _settings(tmp_path, named, pip=f"[global]\ncert = {cert}\n" if cert else None)
    assert found == IndexSettings(authority=f"{AUTHORITY.format(strongest)}\n".encode())
    assert found.files() == {"authority.pem": found.authority}
    assert found.uv_variables(Path("/m")) == {"SSL_CERT_FILE": "/m/authority.pem"}
    assert found.pip_variables(Path("/m")) == {"PIP_CERT": "/m/authority.pem"}


def test_folders_of_certificates_give_each_certificate_once_and_no_keys(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    a, b = AUTHORITY.format("a"), AUTHORITY.format("b")
    (one / "a.pem").write_text(f"a comment\n{a}\n-----BEGIN PRIVATE KEY-----\nk\n-----END PRIVATE KEY-----\n")
    (one / "link").symlink_to(one / "a.pem")
    (one / "dangling").symlink_to(one / "absent")
    (other / "both").write_bytes(f"{b}\n{a}\n".replace("\n", "\r\n").encode())
    found = _settings(tmp_path, {"SSL_CERT_DIR": f"{one}{os.pathsep}{other}"})
    assert found.authority == f"{a}\n{b}\n".encode()


@pytest.mark.parametrize("how", [{"UV_SYSTEM_CERTS": "true"}, {"UV_NATIVE_TLS": "1"}, "system-certs = true\n"])
def test_the_systems_certificates_where_uv_is_told_to_trust_them(
    authorities: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authorities["SSL_CERT_FILE"])  # what OpenSSL uses as the system's
    found = _settings(tmp_path, uv=how) if isinstance(how, str) else _settings(tmp_path, how)
    assert found.authority == f"{AUTHORITY.format('SSL_CERT_FILE')}\n".encode()


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("absent.pem", None, "cannot be read: No such file or directory"),
        ("empty.pem", "no certificate\n", "contains no certificate in PEM"),
    ],
)
def test_an_authority_that_is_none(tmp_path: Path, name: str, content: str | None, why: str) -> None:
    file = tmp_path / name
    if content:
        file.write_text(content)
    expected = f"the certificate authority `{file}` of {{}} {why}"
    assert _problem(tmp_path, {"SSL_CERT_FILE": str(file)}) == expected.format("`SSL_CERT_FILE`")
    assert _problem(tmp_path, pip=f"[global]\ncert={file}\n") == expected.format("pip's setting `cert`")


def test_an_authority_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "large.pem"
    file.write_text("\n".join(AUTHORITY.format(f"{number:010}" * 100) for number in range(1000)))
    size = file.stat().st_size + 1
    assert _problem(tmp_path, {"SSL_CERT_FILE": str(file)}) == (
        f"the settings of the package index take {size:,} bytes, but a Secret holds {MAX_SETTINGS_BYTES:,}; "
        "name a smaller certificate authority, with `SSL_CERT_FILE`"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("index-url", "Expected '=' after a key in a key/value pair (at end of document)"),
        ("index-url = 1", "`index-url` is not a string in the table `uv`"),
        ('find-links = "x"', "`find-links` is not a list of strings in the table `uv`"),
        ("[pip]\nextra-index-url = [1]", "`extra-index-url` is not a list of strings in the table `pip`"),
        ("index = 1", "`index` is not a list of tables in the table `uv`"),
        ('[[index]]\nname = "x"', "an `index` has no `url`, or a `name` that is not a string in the table `uv`"),
        (
            '[[index]]\nurl = "x"\nignore-error-codes = 4',
            "`ignore-error-codes` is not a list of numbers in the table `uv`",
        ),
        ("pip = 1", "not a table in the table `pip`"),
    ],
)
def test_a_configuration_of_uvs_that_is_not_one(tmp_path: Path, content: str, why: str) -> None:
    assert _problem(tmp_path, uv=content) == f"uv's configuration `{tmp_path / 'uv.toml'}` cannot be read: {why}"


def test_a_configuration_file_of_uvs_that_is_named_and_absent(tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    with pytest.raises(ConfigError) as caught:
        index_settings({"HOME": str(tmp_path), "UV_CONFIG_FILE": str(absent)}, tmp_path, [])
    assert caught.value.message == (
        f"uv's configuration `{absent}`, which `UV_CONFIG_FILE` names, cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("url", ["https://ann:s3cret@a.example:port/s", "https://ann:s3cret@[a/s", "https:///s"])
def test_an_index_that_is_not_an_address(tmp_path: Path, url: str) -> None:
    message = _problem(tmp_path, {"UV_INDEX": url})
    assert message.endswith(", in the settings of uv or pip, is not an address")
    assert "s3cret" not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    environ = {"SSL_CERT_FILE": str(tmp_path / "absent.pem"), "UV_INDEX": "https://a.example:port/s"}
    first, *lines = _problem(tmp_path, environ, pip=f"index-url = {A}\n", uv="=").splitlines()
    assert first == "4 problems:"
    assert [line.split("`")[1] for line in lines] == [
        str(tmp_path / "pip.conf"),
        str(tmp_path / "uv.toml"),
        str(tmp_path / "absent.pem"),
        "https://a.example:port/s",
    ]
    assert lines[0].endswith("cannot be read: File contains no section headers.")


# ------------------------------------------------------------------------------------------------- in a pod

FULL = IndexSettings(
    indexes=(
        Index("https://ann:p%2Fw@a.example/s", "corp", ignored=(403, 404)),
        Index("http://b.example:8/s", default=True),
    ),
    find_links=("https://links.example/ä",),
    no_index=True,
    strategy="unsafe-best-match",
    insecure_hosts=("i.example",),
    proxies={"HTTPS_PROXY": "http://u:pw@proxy.example", "NO_PROXY": "n.example"},
    authority=b"-authority-",
)


def test_the_value_comes_out_of_the_secret_as_it_went_in(tmp_path: Path) -> None:
    files = FULL.files()
    assert sorted(files) == ["authority.pem", "index.json", "uv.toml"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert IndexSettings.from_files(tmp_path) == FULL
    assert IndexSettings.from_files(tmp_path / "absent") == IndexSettings()


def test_what_uv_is_told_in_a_pod() -> None:
    assert FULL.uv_variables(Path("/m")) == {
        "UV_CONFIG_FILE": "/m/uv.toml",
        "SSL_CERT_FILE": "/m/authority.pem",
        "HTTPS_PROXY": "http://u:pw@proxy.example",
        "NO_PROXY": "n.example",
    }
    assert tomllib.loads(FULL.files()["uv.toml"].decode()) == {
        "no-index": True,
        "index-strategy": "unsafe-best-match",
        "find-links": ["https://links.example/ä"],
        "allow-insecure-host": ["i.example"],
        "index": [
            {"url": "https://ann:p%2Fw@a.example/s", "name": "corp", "ignore-error-codes": [403, 404]},
            {"url": "http://b.example:8/s", "default": True},
        ],
    }


def test_what_pip_is_told_in_a_pod() -> None:
    assert FULL.pip_variables(Path("/m")) == {
        "PIP_INDEX_URL": "http://b.example:8/s",
        "PIP_EXTRA_INDEX_URL": "https://ann:p%2Fw@a.example/s",
        "PIP_FIND_LINKS": "https://links.example/ä",
        "PIP_TRUSTED_HOST": "i.example b.example:8",
        "PIP_NO_INDEX": "1",
        "PIP_CERT": "/m/authority.pem",
        "HTTPS_PROXY": "http://u:pw@proxy.example",
        "NO_PROXY": "n.example",
    }


def test_what_a_value_replaces_is_taken_out_of_the_environment() -> None:
    gone = (
        "UV_INDEX",
        "UV_CONFIG_FILE",
        "PIP_CERT",
        "SSL_CERT_DIR",
        "https_proxy",
        "NO_PROXY",
        "NETRC",
        "CURL_CA_BUNDLE",
    )
    kept = {"PATH": "/bin", "UV_CACHE_DIR": "/c", "UV_HTTP_TIMEOUT": "9", "HOME": "/h"}
    assert unconfigured({**dict.fromkeys(gone, "x"), **kept}) == kept


def test_it_is_imported_from_the_archive_where_nothing_is_installed(tmp_path: Path) -> None:
    archive = tmp_path / "skjob.zip"
    archive.write_bytes(skjob_archive())
    program = (
        "from pathlib import Path; from skjob.environment.index.settings import IndexSettings;"
        " print(IndexSettings.from_files(Path('m')))"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert (done.stdout.partition("(")[0], done.stderr) == ("IndexSettings", "")
