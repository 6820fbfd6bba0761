"""A fault is told in a word or two, and those say which requests or connections it strikes, and when."""

from __future__ import annotations

from typing import Any

import pytest

from harness.report.faults import fault_in_words
from tests.histories.building import fault

EDGE = "order -> payment"


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [
        ("http_error", {}, "answers 503"),
        ("http_error", {"every": 2}, "answers 503, every 2nd"),
        ("http_error", {"every": 3}, "answers 503, every 3rd"),
        ("http_error", {"every": 4}, "answers 503, every 4th"),
        ("http_error", {"every": 12}, "answers 503, every 12th"),
        ("http_error", {"every": 101}, "answers 503, every 101st"),
        ("http_error", {"method": "POST"}, "answers 503, POST"),
        ("http_delay", {"delay": "100ms", "path": "/pay*", "method": "POST", "share": "30%"}, "+0.1 s, POST /pay*, 30%"),
        ("lost_reply", {"first_attempt": True}, "replies lost, first attempts"),
        (
            "http_corrupt",
            {"header": "X-Tenant: a*", "journey": "POST /orders"},
            "corrupted, with X-Tenant: a*, of POST /orders",
        ),
        ("flap", {"period": "4s", "duty": "25%"}, "refused for 1 s of every 4 s"),
        ("flaky", {"share": "30%", "mode": "reset"}, "reset 30% of the time"),
        ("latency", {"latency": "300ms", "share": "30%"}, "+0.3 s, 30%"),
    ],
)
def test_a_fault_says_what_it_strikes(kind: str, said: dict[str, Any], words: str) -> None:
    item = fault(kind, edge=EDGE, **said)

    assert fault_in_words(item, kind) == words
