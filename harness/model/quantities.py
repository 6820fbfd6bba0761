"""Numbers with units, as people write them: `250ms`, `10%`, `80/s`, `64MB`, `100% or 100ms`.

Each is kept as a plain number (seconds, a share between 0 and 1, events per second, bytes) and written back
with its unit, so that what was dumped can be read again and means the same to the last bit.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 24 * 3600.0
FASTEST = 1_000_000.0
BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
MOST_DIGITS = 18
KILOBYTES = {"": 1e-3, "k": 1.0, "m": 1e3, "g": 1e6}

_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_STRETCHES = re.compile(rf"(?:{_NUMBER}(?:us|ms|s|m|h))+")
_STRETCH = re.compile(rf"({_NUMBER})(us|ms|s|m|h)")
_SHARE = re.compile(rf"({_NUMBER})\s*%")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_RATE = re.compile(rf"({_NUMBER})/s")
_RATE_MEANT = re.compile(
    rf"({_NUMBER})\s*(?:(?:r|req|requests|hits|it|iterations)?\s*(?:/|per|p)\s*)?"
    r"(s|sec|second|seconds|m|min|minute|minutes|h|hour|hours)?"
)
SECONDS_OF = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds in what a rate is counted by, by its first letter."""
_DATA_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g)?b/s", re.IGNORECASE)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(k|m|g)(?:i?b)?|b)", re.IGNORECASE)


def _refuse(expected: str, found: object) -> PydanticCustomError:
    return PydanticCustomError("quantity", "expected {expected}, found {found}", {"expected": expected, "found": repr(found)})


def parse_duration(value: object) -> float:
    """Seconds in `250ms`, `30s`, `5m`, `1h30m`; at most a day."""
    text = value.strip() if isinstance(value, str) else ""
    if not _STRETCHES.fullmatch(text):
        raise _refuse("a duration with its unit, such as 250ms, 30s or 5m", value)
    seconds = sum(float(number) * SECONDS[unit] for number, unit in _STRETCH.findall(text))
    if seconds > LONGEST:
        raise _refuse("a duration of at most 24h", value)
    return seconds


def parse_share(value: object) -> float:
    """The share in `10%`, as a number: 0.1. Above 100 % is possible, as a margin."""
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise _refuse("a share in per cent, such as 10%", value)
    return float(match[1]) / 100


def parse_fraction(value: object) -> float:
    """A share of a whole: between 0% and 100%."""
    share = parse_share(value)
    if share > 1:
        raise _refuse("a share between 0% and 100%", value)
    return share


def parse_rate(value: object) -> float:
    """Events per second in `80/s`."""
    match = _RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise _refuse(f"a rate with its unit, such as {_rate_meant(value)}", value)
    rate = float(match[1])
    if rate > FASTEST:
        raise _refuse(f"a rate of at most {FASTEST:.0f}/s", value)
    if rate <= 0:
        raise _refuse("a rate above zero, such as 80/s", value)
    return rate


def _rate_meant(value: object) -> str:
    """How what was written is most likely meant, as an example: 80 as 80/s, 120/min as 2/s."""
    match = _RATE_MEANT.fullmatch(str(value).strip().lower()) if not isinstance(value, bool) else None
    rate = float(match[1]) / SECONDS_OF.get((match[2] or "s")[0], 1.0) if match is not None else 0.0
    return f"{rate:.6g}/s" if 0 < rate <= FASTEST else "80/s"


def parse_size(value: object) -> int:
    """Bytes in `64MB`, `64MiB`, `64m` or `512B`: as Docker and Compose read them, each step is 1024, however it is written."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or len(match[1]) > MOST_DIGITS:
        raise _refuse("a size with its unit, such as 64MB or 512KB", value)
    return int(float(match[1]) * BYTES[(match[2] or "").lower()])


def parse_data_rate(value: object) -> int:
    """Whole KB/s in `10KB/s` or `1.5MB/s`: as in Toxiproxy, a KB is 1000 bytes here."""
    match = _DATA_RATE.fullmatch(value.strip()) if isinstance(value, str) else None
    known = match is not None and len(match[1]) <= MOST_DIGITS
    rate = float(match[1]) * KILOBYTES[(match[2] or "").lower()] if match is not None and known else 0.0
    if rate < 1 or rate != int(rate):
        raise _refuse("a rate in whole KB/s, at least 1, such as 10KB/s or 1MB/s", value)
    return int(rate)


def parse_day(value: object) -> date:
    """The day in `2027-01-31`; YAML has made a date of it already, unless it stands in quotes."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value.strip()):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    raise _refuse("a day that there is, such as 2027-01-31", str(value) if isinstance(value, datetime) else value)


def format_data_rate(rate: int) -> str:
    """The rate, given in KB/s, in the largest unit that says it whole."""
    for unit, size in (("GB/s", 1_000_000), ("MB/s", 1000)):
        if rate and rate % size == 0:
            return f"{rate // size}{unit}"
    return f"{rate}KB/s"


def format_size(size: int) -> str:
    """The size in the largest unit that says it whole."""
    for unit in ("g", "m", "k"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit.upper()}B"
    return f"{size}B"


def format_duration(seconds: float) -> str:
    """The duration with its unit, exact: reading it gives the same number again."""
    short = f"{seconds:g}s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:g}ms"
    return short if parse_duration(short) == seconds else f"{seconds!r}s"


def format_share(share: float) -> str:
    """The share in per cent, exact where it came from per cent."""
    percent = round(share * 100, 10)
    return f"{percent:g}%" if float(f"{percent:g}") / 100 == share else f"{share * 100!r}%"


def format_rate(rate: float) -> str:
    """The rate with its unit."""
    short = f"{rate:g}/s"
    return short if parse_rate(short) == rate else f"{rate!r}/s"


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
Share = Annotated[float, BeforeValidator(parse_share), PlainSerializer(format_share)]
Fraction = Annotated[float, BeforeValidator(parse_fraction), PlainSerializer(format_share)]
Rate = Annotated[float, BeforeValidator(parse_rate), PlainSerializer(format_rate)]
Day = Annotated[date, BeforeValidator(parse_day), PlainSerializer(date.isoformat)]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]
DataRate = Annotated[int, BeforeValidator(parse_data_rate), PlainSerializer(format_data_rate)]
