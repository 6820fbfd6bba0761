"""Requests without a name, brought together by patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.runtime.load.groups import Groups

GROUPS = Groups(
    ["GET /orders/new", "GET /orders/all?page=1", "GET /orders/*", "GET /orders/*/lines/*", "POST /files/**", "GET /v1.0/*"]
)


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("GET", "/orders/17", "/orders/*"),
        ("get", "/orders/17?page=2", "/orders/*"),
        ("GET", "http://127.0.0.1:8000/orders/17#top", "/orders/*"),
        ("GET", "/orders/17/lines/3", "/orders/*/lines/*"),
        ("POST", "/files/a/b/c.txt", "/files/**"),
        ("GET", "/v1.0/x", "/v1.0/*"),
        ("GET", "/v1x0/x", None),
        ("GET", "/orders", None),
        ("GET", "/orders/new", None),
        ("GET", "/orders/new?for=me", "/orders/*"),
        ("GET", "/orders/all?page=1", None),
        ("GET", "/orders/17/lines", None),
        ("POST", "/orders/17", None),
        ("GET", "http://127.0.0.1:8000", None),
    ],
)
def test_a_request_belongs_to_the_first_pattern_that_fits_its_whole_path(method: str, url: str, name: str | None) -> None:
    assert GROUPS.name_for(method, url) == name


def test_without_patterns_there_is_nothing_to_look_for() -> None:
    assert not Groups([])
    assert not Groups(["GET /catalog"])
    assert GROUPS


@given(st.text(min_size=1).filter(lambda text: not set(text) & set("/?#\n")))
def test_whatever_stands_in_one_piece_of_the_path_fits(piece: str) -> None:
    assert Groups(["GET /orders/*"]).name_for("GET", f"/orders/{piece}") == "/orders/*"
