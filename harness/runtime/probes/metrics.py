"""Reads one counter of a service from its `/metrics`, in Prometheus' text format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, nan

import requests
import urllib3.exceptions

from harness.runtime.ports import Address

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_SERIES = re.compile(r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\S+)?\s*")
LARGEST_PAGE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """The counter's value; None where it could not be read or is not there, and why."""

    value: float | None
    detail: str = ""


def read_counter(address: Address, metric: str, session: requests.Session, *, patience: float = 1.0) -> Reading:
    """Ask the service for its metrics and look for the counter."""
    url = f"http://{address}/metrics"
    try:
        with session.get(url, timeout=patience, stream=True, allow_redirects=False) as answer:  # nobody leads us elsewhere
            if answer.status_code != 200:
                return Reading(None, f"{url} answered {answer.status_code}")
            page = answer.raw.read(LARGEST_PAGE + 1, decode_content=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        return Reading(None, f"{url} did not answer within {patience:g} s: {type(error).__name__}")
    if len(page) > LARGEST_PAGE:
        return Reading(None, f"{url} answered more than {LARGEST_PAGE:,} bytes")
    value = find_counter(page.decode("utf-8", "replace"), metric)
    return Reading(value, "" if value is not None else f"{url} has no {metric}")


def find_counter(page: str, metric: str) -> float | None:
    """The sum of all series of this name that carry at least the labels asked for; None where there is none."""
    asked = _SERIES.fullmatch(metric + " 0")
    if asked is None:
        return None
    labels = set(_LABEL.findall(asked["labels"] or ""))
    values = []
    for line in page.splitlines():
        if not line.startswith(asked["name"]):
            continue
        series = _SERIES.fullmatch(line)
        if series is not None and series["name"] == asked["name"] and labels <= set(_LABEL.findall(series["labels"] or "")):
            values.append(_number(series["value"]))
    total = sum(values) if values else None
    return total if total is not None and isfinite(total) else None


def _number(text: str) -> float:
    """What a series says; not a number where it says none."""
    try:
        return float(text)
    except ValueError:
        return nan
