"""Numbers with units are read as people write them, and written back exactly."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from harness.model.parts import LatencyMargin, _format_margin, _parse_margin
from harness.model.quantities import (
    FASTEST,
    LONGEST,
    format_duration,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_fraction,
    parse_rate,
    parse_share,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("0s", 0.0), (" 1.5s ", 1.5), ("500us", 0.0005)],
)
def test_a_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("found", [30, 0.25, "30", "s", "-1s", "1 s", "1d", "", None, True, [], "25h", "1s1", "1e400s"])
def test_what_is_no_duration_is_refused_with_what_was_expected(found: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(found)


@pytest.mark.parametrize("found", [10, "10", "ten%", "-1%", None])
def test_what_is_no_share_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        parse_share(found)


def test_a_fraction_of_a_whole_is_at_most_all_of_it() -> None:
    assert parse_fraction("100%") == 1.0
    with pytest.raises(ValueError, match="between 0% and 100%"):
        parse_fraction("101%")


@pytest.mark.parametrize("found", [80, "80", "0/s", "-1/s", "80/m", "1e9/s", None])
def test_what_is_no_rate_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="expected a rate"):
        parse_rate(found)


@given(st.floats(0, LONGEST))
def test_a_duration_written_back_is_the_same_to_the_last_bit(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.floats(0, 10))
def test_a_share_written_back_is_the_same_to_the_last_bit(share: float) -> None:
    assert parse_share(format_share(share)) == pytest.approx(share, abs=1e-15)


@given(st.integers(0, 1000))
def test_a_share_of_whole_per_cents_is_written_back_as_it_was(percent: int) -> None:
    assert format_share(parse_share(f"{percent}%")) == f"{percent}%"


@given(st.floats(1e-3, FASTEST))
def test_a_rate_written_back_is_the_same_to_the_last_bit(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("50%", LatencyMargin(relative=0.5)),
        ("50ms", LatencyMargin(absolute=0.05)),
        ("100% or 100ms", LatencyMargin(relative=1.0, absolute=0.1)),
    ],
)
def test_a_margin_is_relative_absolute_or_the_larger_of_both(text: str, margin: LatencyMargin) -> None:
    assert _parse_margin(text) == margin
    assert _parse_margin(_format_margin(margin)) == margin


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MB", 2**26), ("64MiB", 2**26), ("64m", 2**26), ("1.5g", 3 * 2**29), ("512kb", 2**19), ("12B", 12), (" 1 GB ", 2**30)],
)
def test_a_size_is_read_as_docker_reads_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("found", [64, "64", "MB", "-1MB", "64 megabytes", "1e3MB", "64MB/s", "", None, True, [], "1T"])
def test_what_is_no_size_is_refused_with_what_was_expected(found: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(found)


@given(st.integers(0, 2**50))
def test_a_size_written_back_is_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (50, "expected a rate with its unit, such as 50/s, found 50"),
        ("50rps", "expected a rate with its unit, such as 50/s, found '50rps'"),
        ("100 req/s", "expected a rate with its unit, such as 100/s, found '100 req/s'"),
        ("120/min", "expected a rate with its unit, such as 2/s, found '120/min'"),
        ("1800 per hour", "expected a rate with its unit, such as 0.5/s, found '1800 per hour'"),
        ("-3/s", "expected a rate with its unit, such as 80/s, found '-3/s'"),
        ("fast", "expected a rate with its unit, such as 80/s, found 'fast'"),
        (True, "expected a rate with its unit, such as 80/s, found True"),
        ("0/s", "expected a rate above zero, such as 80/s, found '0/s'"),
        ("2000000/s", "expected a rate of at most 1000000/s, found '2000000/s'"),
    ],
)
def test_a_wrong_rate_is_told_with_the_example_that_fits(written: object, told: str) -> None:
    with pytest.raises(PydanticCustomError) as refused:
        parse_rate(written)

    assert refused.value.message() == told


@given(st.one_of(st.text(max_size=30), st.integers(), st.floats(), st.none(), st.booleans()))
def test_every_rate_that_is_shown_as_an_example_is_one(written: object) -> None:
    try:
        parse_rate(written)
    except PydanticCustomError as refused:
        example = re.search(r"such as (\S+),", refused.message())
        assert example is None or parse_rate(example[1]) > 0
