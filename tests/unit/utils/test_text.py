"""Text of others is shown so that nothing acts on it."""

from __future__ import annotations

import pytest

from skjob.utils.text import columns, shortened, visible

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("größe 数 🙂", "größe 数 🙂"),
        ("a\x1b[31mred\x1b]0;title\x07", r"a\x1b[31mred\x1b]0;title\x07"),
        ("50 %\rdone", r"50 %\rdone"),
        ("exe\u202etxt", r"exe\u202etxt"),
        ("\u2066a\u2069\u200b", r"\u2066a\u2069\u200b"),
        ("one\ntwo\tthree", r"one\ntwo\tthree"),
        ("\x9b2J\x85\u2028", r"\x9b2J\x85\u2028"),
        ("\ud800", r"\ud800"),
        ("no\xa0break", "no\xa0break"),
    ],
)
def test_what_can_not_be_seen_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_text_of_several_lines_keeps_them_and_loses_its_colours() -> None:
    text = "\x1b[1;31merror\x1b[0m: one\r\n\ttwo\x1b[2J\rthree"
    assert visible(text, lines=True) == "error: one\n\ttwo\\x1b[2J\\rthree"


def test_shortened_text_says_so() -> None:
    assert (shortened("abc", 3), shortened("abcd", 3), shortened("ab cd", 4)) == ("abc", "ab…", "ab…")


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert (columns("abc"), columns("数x"), columns("e\u0301")) == (3, 3, 1)
