"""A fault is told in a word or two, and those say which requests or connections it strikes, and when."""

from __future__ import annotations

from typing import Any

import pytest

from harness.model.faults import FaultItem
from harness.report.faults import fault_in_words

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
        ("latency", {"latency": "500ms", "ramp": "10s"}, "+0.5 s, from 0 s to 0.5 s over 10 s"),
        (
            "bandwidth",
            {"rate": "20KB/s", "ramp": {"over": "5s", "from": "1MB/s"}},
            "20KB/s, from 1MB/s to 20KB/s over 5 s",
        ),
        ("http_error", {"share": "50%", "ramp": "4s"}, "answers 503, 50%, from 0% to 50% over 4 s"),
        ("limit_data", {"bytes": "2KB", "ramp": {"over": "4s", "from": "10KB"}}, "closed after 2KB, from 10KB to 2KB over 4 s"),
    ],
)
def test_a_fault_says_what_it_strikes(kind: str, said: dict[str, Any], words: str) -> None:
    beside = {"ramp": said["ramp"]} if "ramp" in said else {}
    own = {name: value for name, value in said.items() if name != "ramp"}
    item = FaultItem.model_validate({"for": "20s", **beside, kind: {"edge": EDGE, **own}})

    assert fault_in_words(item, kind) == words


def test_a_service_that_is_held_back_more_and_more_says_from_where_to_where() -> None:
    item = FaultItem.model_validate(
        {"cpu": {"service": "order", "cores": 0.5}, "ramp": {"over": "6s", "from": 2}, "for": "20s"}
    )

    assert fault_in_words(item, "cpu") == "at 0.5 cores, from 2 to 0.5 over 6 s"
