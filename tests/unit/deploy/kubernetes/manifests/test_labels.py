"""Check that names and labels are valid whatever the program and user are called, and that no two runs share one."""

import re

import pytest

from skjob.deploy.kubernetes.manifests.labels import CLUSTER_NAME_MAX, RunNames, new_run_id, slug

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
ABSURD = [
    "", "-", "---", ".", " ", "\n", "\x00", "1", "9lives", "-a-", "A", "ÄÖÜ", "日本語", "é" * 80, "a" * 200,
    "a" * 62 + "-b", "a" * 63 + "-", "-" * 100 + "z", "train.v2 (final) [1]", "ß", "ﬁt", "x_y", "../../etc/passwd",
    "1" * 64, "$(id)", "{{ .Values }}", "domain\\user", "user@example.org", "🙂", "a\u0301",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("train", "train"),
        ("Train_Model.v2", "train-model-v2"),
        ("", "x"),
        ("---", "x"),
        ("日本語", "x"),
        ("Übung", "ubung"),
        ("ﬁt", "fit"),
        ("1st", "x-1st"),
        ("-a-", "a"),
        ("a--b", "a-b"),
        ("a" * 62, "a" * 62),
        ("a" * 63, "a" * 63),
        ("a" * 64, "a" * 63),
        ("a" * 65, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
        ("a" * 61 + "-b", "a" * 61 + "-b"),
        ("1" * 63, "x-" + "1" * 61),
    ],
)
def test_slug(text: str, result: str) -> None:
    assert slug(text) == result


@pytest.mark.parametrize(("length", "result"), [(1, "a"), (2, "ab"), (3, "ab"), (4, "ab-c"), (5, "ab-cd")])
def test_a_slug_that_is_cut_ends_well(length: int, result: str) -> None:
    assert slug("ab cd", length) == result


@pytest.mark.parametrize("called", ABSURD)
def test_every_name_and_label_is_valid(called: str) -> None:
    names = RunNames("20261123-155901-3f9a1c", program=called, user=called)
    assert DNS_1035.fullmatch(names.cluster)
    assert len(names.cluster) <= CLUSTER_NAME_MAX
    assert names.cluster.startswith("skjob-")
    assert names.cluster.endswith("-3f9a1c")
    derived = f"{names.cluster}-default-worker-0123456789"
    assert DNS_1035.fullmatch(derived)
    assert LABEL_VALUE.fullmatch(derived)
    assert [value for value in names.labels("worker").values() if not LABEL_VALUE.fullmatch(value)] == []


def test_the_longest_derived_name_fills_its_room() -> None:
    names = RunNames(new_run_id(), "a" * 100, "u")
    assert len(f"{names.cluster}-default-worker-0123456789") == 63


def test_labels_and_annotations() -> None:
    names = RunNames("20261123-155901-3f9a1c", "Train Model", "Zoë@example")
    assert names.labels("scheduler") == {
        "app.kubernetes.io/name": "skjob",
        "app.kubernetes.io/instance": "skjob-train-model-3f9a1c",
        "app.kubernetes.io/managed-by": "skjob",
        "app.kubernetes.io/component": "scheduler",
        "skjob/run": "20261123-155901-3f9a1c",
        "skjob/user": "zoe-example",
    }
    assert names.annotations() == {"skjob/user": "Zoë@example", "skjob/program": "Train Model"}


def test_a_cluster_that_exists_keeps_its_name() -> None:
    assert RunNames("", "train", "me", existing="skjob-other-aaaaaa").cluster == "skjob-other-aaaaaa"


def test_a_run_id_tells_the_time_and_is_valid() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", new_run_id())


def test_two_runs_of_one_program_never_share_a_name() -> None:
    ids = {new_run_id() for _ in range(20)}
    assert len(ids) == 20
    for program in ("train", "a" * 100, ""):
        names = {RunNames(run_id, program, "me").cluster for run_id in ids}
        assert len(names) == len({run_id[-6:] for run_id in ids})
