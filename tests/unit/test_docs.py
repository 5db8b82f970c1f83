"""The documentation says what is there: each code block, each link, and each option that it names."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import reference_parts
import screenshot
import typer
import yaml
from doc_blocks import (
    PAGES,
    ROOT,
    Block,
    blocks,
    check_command,
    check_ini,
    check_json,
    check_python,
    check_toml,
    check_yaml,
    commands,
    repository,
    run_python,
)

from skjob.config.settings import Settings
from skjob.engine.events import KINDS
from skjob.errors import ConfigError

pytestmark = pytest.mark.unit

BLOCKS = blocks()
MAX_UNCHECKED = 10
MAX_LINES_OF_README = 150

OTHERS_OPTIONS = {"--cascade", "--editable", "--help", "--multirun", "--no-hooks", "--password", "--set"}
"""Of kubectl, uv, Helm, Hydra, every command, or a reader's program, named in a sentence."""


def _check(block: Block, folder: Path) -> None:
    if block.language == "console":
        found = commands(block.text)
        assert found, "there is no command in it"
        made: set[str] = set()
        for words in found:
            check_command(words, made)
    elif block.language == "python":
        check_python(block)
        if "run" in block.marks:
            run_python(block)
    elif block.language == "yaml":
        check_yaml(block, folder)
    elif block.language == "toml":
        check_toml(block, folder)
    elif block.language == "json":
        check_json(block)
    else:
        assert block.language == "ini", f"nothing checks `{block.language}`"
        check_ini(block, folder)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "not checked" not in block.marks], ids=str)
def test_a_block_is_right(block: Block, tmp_path: Path) -> None:
    _check(block, tmp_path)


def test_few_blocks_are_not_checked_and_each_says_why() -> None:
    unchecked = [block.marks["not checked"] for block in BLOCKS if "not checked" in block.marks]
    assert all(unchecked)
    assert len(unchecked) <= MAX_UNCHECKED
    assert len(BLOCKS) > 40


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ skjob run --nonesuch train.py\n"),
        ("console", "$ skjob run --workers many train.py\n"),
        ("console", "$ skjob run nonesuch.py\n"),
        ("console", "$ skjob run train.py --workers 4\n"),
        ("console", "$ skjob env nonesuch\n"),
        ("console", "$ skjob costs --by nonesuch\n"),
        ("console", "$ skjob costs --since nonesuch\n"),
        ("console", "$ make nonesuch\n"),
        ("console", "$ kubectl apply -k k8s/nonesuch\n"),
        ("console", "$ helm upgrade skjob helm/skjob\n"),
        ("console", "$ nonesuch\n"),
        ("console", "its output alone\n"),
        ("python", "import skjob\nskjob.cluster(nonesuch=1)\n"),
        ("python", "from skjob import nonesuch\n"),
        ("python", "import skjob\nskjob.nonesuch()\n"),
        ("python", "search.fit()\n"),
        ("yaml", "estimator: {class: sklearn.svm.Nonesuch}\ndata: {loader: load_iris}\noutputs: {model: a.joblib}\n"),
        ("yaml", "teams: [{name: a, namespace: a, nonesuch: 1}]\n"),
        ("yaml", "teams: []\nlimits: {most-workers: many}\n"),
        ("yaml", "team: a\nprices: '[{nonesuch: 1}]'\n"),
        ("yaml", "team: a\nnonesuch: 1\n"),
        ("yaml", "nonesuch: 1\n"),
        ("toml", "nonesuch = 1\n"),
        ("json", '{"nonesuch": 1}\n'),
        ("ini", "[global]\nnonesuch = 1\n"),
        ("ruby", "puts 1\n"),
    ],
)
def test_a_block_that_is_wrong_is_found(language: str, text: str, tmp_path: Path) -> None:
    wrong = Block(ROOT / "README.md", 1, language, text)
    with pytest.raises((AssertionError, AttributeError, ImportError, TypeError, ConfigError, typer.TyperException)):
        _check(wrong, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_each_field_of_an_event(kind: str) -> None:
    text = (ROOT / "docs" / "reference" / "run-events.md").read_text()
    entry = re.search(rf"^`{kind}`\n: (.+?)\n\n", text, re.M | re.S)
    assert entry is not None
    common = {"call", "at", *(("worker", "started", "seconds") if kind == "tasks" else ())}
    missing = {field.name for field in fields(KINDS[kind])} - common - set(re.findall(r"`(\w+)`", entry[1]))
    assert not missing


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    if "```{include} ../../helm/skjob/README.md" in page.read_text():
        text += (ROOT / "helm" / "skjob" / "README.md").read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = {*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"^\[[^]]+\]: (\S+)$", text, re.M)}
    for link in links:
        ours = re.fullmatch(rf"{re.escape(repository())}/(?:blob|tree)/main/([^#]+)(#.+)?", link)
        if ours is None and link.startswith("http"):
            assert not link.startswith(repository()), link
            raw = link.removeprefix("https://raw.githubusercontent.com/skjob/skjob/main/")
            assert raw == link or (ROOT / raw).exists(), link
            continue
        path, _, anchor = (ours[1] + (ours[2] or "") if ours else link).partition("#")
        target = ((ROOT if ours else page.parent) / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _headings(target), link


def test_the_readmes_links_work_on_pypi() -> None:
    """There, a relative one leads nowhere."""
    text = (ROOT / "README.md").read_text()
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")] == []
    used = set(re.findall(r"\[([^][]+)\](?:\[\]|(?![\[(:]))", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)))
    used |= set(re.findall(r"\]\[([^]]+)\]", text))
    targets = dict(re.findall(r"^\[([^]]+)\]: (\S+)$", text, re.M))
    assert used == set(targets)
    assert [target for target in targets.values() if not target.startswith("https://")] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_LINES_OF_README


def _option_names() -> set[str]:
    return {
        name
        for command in reference_parts.all_commands().values()
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_sentence_names_is_there(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    named = {word for code in re.findall(r"`([^`]+)`", prose) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)}
    assert named - _option_names() - OTHERS_OPTIONS == set()


def test_the_reference_names_every_command_with_its_options_and_their_meaning() -> None:
    text = reference_parts.commands()
    for name, command in reference_parts.all_commands().items():
        assert f"\n## {name}\n" in f"\n{text}"
        for parameter in command.params:
            assert parameter.help, f"{name}: {parameter.name}"
    assert [name for name in _option_names() if name.startswith("--") and name not in text] == []


def test_the_reference_names_every_setting() -> None:
    text = reference_parts.settings()
    rows = re.findall(r"^\| `([a-z-]+)` \| `SKJOB_\w+` \| (.+) \| (.*) \|$", text, re.M)
    assert [name.replace("-", "_") for name, _, _ in rows] == list(Settings.__dataclass_fields__)
    assert all(meaning for _, meaning, _ in rows)


def test_the_reference_names_every_exit_status() -> None:
    rows = re.findall(r"^\| (\d+) \|", reference_parts.exit_statuses(), re.M)
    assert [int(row) for row in rows] == [*range(120, 128), 129, 130, 143]


def test_each_key_of_a_job_file_and_of_the_charts_values_is_described() -> None:
    for text in (reference_parts.job_file(), reference_parts.chart_values(), reference_parts.team_keys()):
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert len(rows) > 10
        assert [row for row in rows if row[:-2].rpartition(" | ")[2].strip() == ""] == []
        assert [name for name in re.findall(r"\[(\w+)\]\(#\w+\)", text) if f"## {name}\n" not in text] == []


def test_each_part_that_is_generated_has_its_place() -> None:
    asked = [name for page in PAGES for name in re.findall(r"<!-- generated: ([a-z ]+) -->", page.read_text())]
    assert sorted(asked) == sorted(reference_parts.PARTS)
    for page in PAGES:
        assert "<!-- generated" not in reference_parts.filled_in(page.read_text())


KUBERNETES_WORDS = {"LimitRange"}
"""Rows of the page on errors that quote Kubernetes, and not skjob."""


def _said_by_skjob() -> str:
    """Every text in the source, with `…` in the place of values."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            return "".join(text(value) for value in node.values)
        return "…" if isinstance(node, ast.FormattedValue) else ""

    trees = [ast.parse(file.read_text()) for file in (ROOT / "skjob").rglob("*.py")]
    said = {" ".join(text(node).split()) for tree in trees for node in ast.walk(tree)}
    return "\n".join(sorted(said)).replace("`", "")


def test_what_the_page_on_errors_quotes_is_what_skjob_says() -> None:
    """Three words one after the other, or a shorter text as a whole, of each row."""
    said = _said_by_skjob()
    page = (ROOT / "docs" / "explanation" / "errors.md").read_text()
    rows = re.findall(r"^\| (?!What|---)(.+?) \| (.+?) \|", page, re.M)

    def quotes(row: str) -> bool:
        for part in re.split(r"…|;", row.replace("`", "")):
            words = part.strip(" ,.:").split()
            windows = [" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))]
            if any(len(window) >= 8 and window in said for window in windows):
                return True
        return False

    assert len(rows) >= 30
    assert {what for what, told in rows if not quotes(told)} == KUBERNETES_WORDS


def test_each_claim_of_security_names_tests_that_are_there() -> None:
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]
    for row in rows:
        named = re.findall(r"`((?:kind|unit)/[\w/]+)`", row)
        assert named or "every kind test" in row, row
        assert [name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()] == []
    assert len(rows) > 10


def test_each_file_that_a_page_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`(skjob/[\w/]+\.py|(?:tests|helm|k8s|benchmarks|docs|examples)/[\w./-]+)`", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_project_names_each_python_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [each.rpartition(" :: ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert named == jobs["test"]["strategy"]["matrix"]["python"]


def test_the_readmes_picture_is_what_make_screenshot_draws() -> None:
    """Its text: how it is drawn may differ from one version of rich to another."""
    drawn, kept = (
        re.sub(r"<[^>]*>|\s+", " ", each).split() for each in (screenshot.picture(), screenshot.PICTURE.read_text())
    )
    assert "GridSearchCV" in " ".join(kept)
    assert drawn == kept
    assert "http" not in screenshot.PICTURE.read_text().replace("http://www.w3.org/2000/svg", "").replace(
        "https://www.textualize.io", ""
    )
