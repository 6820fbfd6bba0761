"""The sample system's files: its defects, its scenarios, what it says about itself."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from harness.model.resolving import resolve
from harness.model.scenario import ScenarioFile
from harness.model.system_reading import read_system
from sample_system.defects import Defect, UnknownDefect, planted
from sample_system.inventory import SCHEMA as STOCK
from sample_system.order import FALLBACK, payment_at, read_wanted
from sample_system.order_book import MOVE
from sample_system.saga import Status
from sample_system.telemetry import FALLBACKS, JsonLines, continued, traceparent

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_system"
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))


def scenario(path: Path) -> ScenarioFile:
    return ScenarioFile.model_validate(yaml.safe_load(path.read_text()))


def test_a_service_without_defects_has_none() -> None:
    assert planted("order", {}) == planted("order", {"DEFECTS": " , "}) == frozenset()


def test_defects_are_planted_by_name() -> None:
    assert planted("order", {"DEFECTS": "no_timeout, no_fallback"}) == {Defect.NO_TIMEOUT, Defect.NO_FALLBACK}


@pytest.mark.parametrize(("service", "name"), [("order", "no_timeouts"), ("gateway", "no_timeout"), ("payment", "no_fallback")])
def test_a_defect_that_a_service_does_not_have_is_refused(service: str, name: str) -> None:
    with pytest.raises(UnknownDefect, match=f"expected defects of {service} .*, found {name}"):
        planted(service, {"DEFECTS": name})


@pytest.mark.parametrize(("defects", "tries"), [((), 2), ((Defect.NO_RETRY,), 1), ((Defect.RETRY_STORM,), 20)])
def test_payment_is_asked_twice_unless_a_defect_says_otherwise(defects: tuple[Defect, ...], tries: int) -> None:
    assert payment_at("http://payment", frozenset(defects)).patience.tries == tries


def test_every_defect_is_caught_by_a_scenario() -> None:
    claimed = [
        (name, service, environment["DEFECTS"])
        for path in SCENARIOS
        for name, defect in scenario(path).defects.items()
        for service, environment in defect.environment.items()
    ]

    assert sorted(set(claimed)) == sorted((defect.title, defect.service, defect.title) for defect in Defect)


def test_the_readme_tells_every_scenario_with_its_defects() -> None:
    text = (SAMPLE / "README.md").read_text()
    told = {name for row in text.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}

    assert told >= {path.stem for path in SCENARIOS} | {defect.title for defect in Defect}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_is_sound(path: Path) -> None:
    read = resolve(path, environ={})

    assert read.experiment.question.endswith("?")


def test_the_system_is_sound_and_runs_without_containers() -> None:
    read = read_system(SAMPLE / "system.yaml", {})

    assert (read.problems, read.warnings) == ((), ())
    assert read.compose.not_honoured == ()
    assert all(service.not_honoured == () for service in read.compose.services.values())
    assert set(read.file.local) == set(read.compose.services)


def test_shipping_has_two_callers_and_only_order_and_inventory_know_the_broker() -> None:
    edges = read_system(SAMPLE / "system.yaml", {}).system.edges

    assert {edge.caller for edge in edges if edge.callee == "shipping"} == {"gateway", "order"}
    assert {edge.caller for edge in edges if edge.callee == "redis"} == {"order", "inventory"}


def test_the_locustfile_makes_the_requests_of_the_journeys_and_orders_what_there_is() -> None:
    text = (SAMPLE / "locustfile.py").read_text()
    system = read_system(SAMPLE / "system.yaml", {}).system
    skus = re.search(r"SKUS = \((.*?)\)", text)

    assert skus is not None
    assert set(re.findall(r'"(\w+)"', skus[1])) == set(re.findall(r"\('(\w+)', \d+", STOCK))
    for request in system.journeys.values():
        path = request.split()[1].removesuffix("/:id")
        assert f'"{path}"' in text


def test_the_declared_fallback_is_the_one_that_order_counts() -> None:
    declared = read_system(SAMPLE / "system.yaml", {}).file.fallbacks[FALLBACK]
    FALLBACKS.labels(name=FALLBACK, dependency="shipping")

    assert declared.marker.equals == FALLBACK
    assert declared.counter is not None
    assert declared.counter.metric == f'fallback_total{{name="{FALLBACK}"}}'
    assert f'fallback_total{{dependency="shipping",name="{FALLBACK}"}} 0.0' in generate_latest().decode()


def test_the_image_has_what_the_services_import() -> None:
    dockerfile = (SAMPLE / "Dockerfile").read_text()

    assert all(name in dockerfile for name in ("aiohttp", "asyncpg", "prometheus-client", "redis", "starlette", "tenacity"))


def test_a_move_replaces_only_the_status_it_was_decided_on_and_tells_of_ends_in_the_same_statement() -> None:
    assert all("WHERE id = $1 AND status = $2" in statement for statement in MOVE.values())
    told = {status for status, statement in MOVE.items() if "INSERT INTO outbox" in statement}
    assert told == {Status.SHIPPED, Status.CANCELLED}


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[]", b"1", b'{"sku": "tea"}', b'{"sku": 1, "quantity": 1}', b'{"sku": "tea", "quantity": 0}', b"\xff"],
)
def test_what_is_no_order_is_not_understood(body: bytes) -> None:
    assert read_wanted(body) is None


def test_an_order_is_understood() -> None:
    assert read_wanted(b'{"sku": "tea", "quantity": 2}') == ("tea", 2)


def test_a_trace_that_comes_in_is_kept_with_a_new_parent() -> None:
    incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

    onward = continued(incoming)

    assert onward != incoming
    assert re.fullmatch("00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00", onward)


@pytest.mark.parametrize("header", ["", "nonsense", "00-XYZ-b7ad6b7169203331-01"])
def test_without_a_trace_a_new_one_begins(header: str) -> None:
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", continued(header))


def test_a_log_line_is_json_and_names_the_failing_dependency_and_the_trace() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines("order"))
    log = logging.Logger("of this test")
    log.addHandler(handler)
    before = traceparent.set("00-1-2-01")

    log.warning("dependency failed", extra={"dependency": "shipping", "reason": "refused"})

    traceparent.reset(before)
    line = json.loads(out.getvalue())
    assert line.pop("time") > 0
    assert line == {
        "level": "warning",
        "service": "order",
        "message": "dependency failed",
        "traceparent": "00-1-2-01",
        "dependency": "shipping",
        "reason": "refused",
    }
