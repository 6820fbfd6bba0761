"""Foreign text, made harmless in one place for all outputs."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.plain import clean, clean_json, clean_lines

TAKEN_AWAY = ("Cc", "Cs", "Zl", "Zp")
TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def harms(text: str) -> set[str]:
    """What of a text could steer a terminal, turn writing around, or break a line or XML."""
    return {c for c in text if unicodedata.category(c) in TAKEN_AWAY or c in TURNING or c in "\ufffe\uffff"}


@given(st.text())
def test_clean_text_is_one_line_that_steers_nothing(text: str) -> None:
    assert harms(clean(text)) == set()
    assert clean(clean(text)) == clean(text)


@given(st.text())
def test_clean_lines_are_as_many_as_there_were(text: str) -> None:
    told = clean_lines(text)

    assert harms(told) <= {"\n"}
    assert told.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07there", "there"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "31mred"),
        ("\x1bPq\x1b\\", "q"),
        ("one\r\ntwo\tthree", "one two three"),
        ("abc\u202egnp.exe", "abcgnp.exe"),
        ("a\u2066b\u2069c", "abc"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tag\U000e0041ged", "tagged"),
        ("\ud800lone", "lone"),
        ("grüße → ✓ 漢字 🎉", "grüße → ✓ 漢字 🎉"),
    ],
)
def test_what_is_harmful_goes_and_what_is_meant_stays(text: str, left: str) -> None:
    assert clean(text) == left


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(data=json_values, indent=st.sampled_from([None, 2]))
def test_clean_json_means_the_same(data: object, indent: int | None) -> None:
    told = clean_json(json.dumps(data, ensure_ascii=False, indent=indent))

    assert json.loads(told) == data
    assert harms(told) <= {"\n"}
