"""What is said of a service that does not come up behind proxies, and would elsewhere."""

from __future__ import annotations

from harness.model.compose import Compose, ComposeService
from harness.model.edges import Edge
from harness.model.experiment import System
from harness.runtime.containers.runtime import undeclared

COMPOSE = Compose(
    {
        "web": ComposeService("web", depends_on={"app": "service_started", "db": "service_started"}),
        "app": ComposeService("app"),
        "db": ComposeService("db"),
    }
)
SYSTEM = System(
    services=("web", "app", "db"),
    entry="web",
    edges=(Edge(name="web -> db", caller="web", callee="db", port=5432),),
    journeys={},
)


def test_a_service_that_was_asked_for_and_is_no_edge_is_named_with_what_to_write() -> None:
    hint = undeclared("web", ["app"], COMPOSE, SYSTEM)

    assert "it asked for app" in hint
    assert "edges: [web -> app:PORT]" in hint


def test_a_name_outside_needs_a_way_out() -> None:
    assert "egress: [app]" in undeclared("app", ["api.example.com"], COMPOSE, SYSTEM)


def test_where_nobody_saw_what_was_asked_for_what_it_depends_on_is_named() -> None:
    hint = undeclared("web", [], COMPOSE, SYSTEM)

    assert "it depends on app" in hint
    assert "db" not in hint


def test_a_service_that_misses_nothing_gets_no_hint() -> None:
    assert undeclared("app", [], COMPOSE, SYSTEM) == ""
    assert undeclared("web", ["app"], COMPOSE, SYSTEM.model_copy(update={"interpose": "faulted"})) == ""
