"""Test which arguments of `skjob run` are its own, and which the program's."""

import pytest

from skjob.cli.run_arguments import RunArguments, split_words

WORKERS = "`--workers` stands"
KNOWN = {"--workers": True, "--on": True, "--json": False, "--verbose": False, "-v": False, "-m": False}


def split_line(line: str) -> RunArguments:
    return split_words(line.split(), KNOWN)


@pytest.mark.parametrize(
    ("line", "options", "arguments"),
    [
        ("train.py", "", ""),
        ("train.py --depth 3", "", "--depth 3"),
        ("--workers 20 train.py --depth 3", "--workers 20", "--depth 3"),
        ("--workers=20 -v train.py -3 - x", "--workers=20 -v", "-3 - x"),
        ("--workers 20 train.py -- --depth 3", "--workers 20", "--depth 3"),
        ("--workers 20 -- train.py --depth 3", "--workers 20", "--depth 3"),
        ("train.py --depth 3 -- x", "", "--depth 3 -- x"),
        ("train.py -- --workers 3", "", "--workers 3"),
        ("train.py -- --workers 3 -- x", "", "--workers 3 -- x"),
        ("train.py 7 8", "", "7 8"),
        ("train.py 7 -- --depth 3", "", "7 --depth 3"),
        ("-m train.py --depth 3", "-m", "--depth 3"),
        ("-m train.py -- --depth 3", "-m", "--depth 3"),
    ],
)
def test_what_stands_before_the_script_is_ours_and_what_stands_after_it_is_its_own(
    line: str, options: str, arguments: str
) -> None:
    assert split_line(line) == RunArguments(tuple(options.split()), ("train.py",), tuple(arguments.split()))


@pytest.mark.parametrize(
    ("line", "options", "arguments", "order", "names"),
    [
        ("train.py --workers 2", "--workers 2", "", "--workers 2 train.py", "`--workers`"),
        ("train.py --workers=2 -v", "--workers=2 -v", "", "--workers=2 -v train.py", "`--workers`, `-v`"),
        ("--on x train.py --workers 2", "--on x --workers 2", "", "--on x --workers 2 train.py", "`--workers`"),
        ("train.py 7 --json 8", "--json", "7 8", "--json train.py 7 8", "`--json`"),
        ("train.py --json -- --depth 3", "--json", "--depth 3", "--json train.py --depth 3", "`--json`"),
        ("train.py --workers -1", "--workers -1", "", "--workers -1 train.py", "`--workers`"),
    ],
)  # fmt: skip
def test_an_option_after_the_script_still_works_and_the_order_to_write_is_told(
    line: str, options: str, arguments: str, order: str, names: str
) -> None:
    note = (
        f"write options before the script: `skjob run {order}`; after it {names} will be the script's own from 0.2 on"
    )
    assert split_line(line) == RunArguments(tuple(options.split()), ("train.py",), tuple(arguments.split()), (note,))


@pytest.mark.parametrize(
    ("line", "options", "arguments", "order", "names"),
    [
        ("--workers 2 train.py --workers 5", "--workers 2", "--workers 5", "--workers 5 train.py", WORKERS),
        ("train.py --depth 3 --workers 2", "", "--depth 3 --workers 2", "--workers 2 train.py --depth 3", WORKERS),
        ("train.py --workers 2 --depth 3", "", "--workers 2 --depth 3", "--workers 2 train.py --depth 3", WORKERS),
        ("-m train.py --on x --json", "-m", "--on x --json", "--on x --json -m train.py", "`--on`, `--json` stand"),
        ("train.py -m x", "", "-m x", "-m train.py x", "`-m` stands"),
        ("train.py --workers", "", "--workers", "--workers VALUE train.py", WORKERS),
    ],
)  # fmt: skip
def test_a_word_that_may_mean_two_things_goes_to_the_script_and_is_told(
    line: str, options: str, arguments: str, order: str, names: str
) -> None:
    it = "goes to it" if names.endswith("stands") else "go to it"
    note = f"{names} after the script and {it}; for skjob, write options before the script: `skjob run {order}`"
    assert split_line(line) == RunArguments(tuple(options.split()), ("train.py",), tuple(arguments.split()), (note,))


@pytest.mark.parametrize(("line", "options"), [("", ""), ("--workers", "--workers"), ("-v --xyzzy", "-v --xyzzy")])
def test_without_a_program_typer_says_what_is_missing(line: str, options: str) -> None:
    assert split_line(line) == RunArguments(tuple(options.split()))
