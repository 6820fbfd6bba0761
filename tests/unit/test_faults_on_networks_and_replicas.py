"""Faults whose place decides whether they can be done: by the network of a Toxiproxy, and on a service's replicas."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.experiment import engine_for
from harness.model.compose import Compose
from harness.model.compose_reading import read_compose
from harness.model.resolving import Resolved, resolve
from harness.model.runnable import check_runs_in_containers, check_runs_with_toxiproxy, needs_embedded
from harness.runtime.choosing import Choice
from harness.runtime.containers.engine import DockerEngine
from tests.systems import SCENARIO, write_system

FAULT = "outage: {service: shipping}"


def resolved(folder: Path, fault: str, replicas: int = 1) -> Resolved:
    def read(files: Sequence[Path], environ: Mapping[str, str]) -> Compose:
        found = read_compose(files, environ)[0]
        services = {**found.services, "shipping": replace(found.services["shipping"], replicas=replicas)}
        return replace(found, services=services)

    return resolve(write_system(folder, scenario=SCENARIO.replace(FAULT, fault)), compose_of=read)


@pytest.mark.parametrize(("replicas", "to"), [(1, 1), (2, 2), (2, 3)])
def test_scaling_to_what_there_is_or_more_is_refused_by_its_line(tmp_path: Path, replicas: int, to: int) -> None:
    with pytest.raises(InvalidFile) as raised:
        check_runs_in_containers(resolved(tmp_path, f"scale: {{service: shipping, to: {to}}}", replicas))

    (problem,) = raised.value.problems
    assert f"expected fewer than the {replicas} of shipping that the Compose file asks for" in str(problem)
    assert f"found {to}" in str(problem)
    assert ".yaml:" in str(problem)


def test_scaling_to_fewer_is_planned(tmp_path: Path) -> None:
    found = check_runs_in_containers(resolved(tmp_path, "scale: {service: shipping, to: 1}", 2))

    assert [item.kind for item in found.experiment.faults] == ["scale"]


BY_NETWORK = ["isolate: {service: shipping, by: network}", "outage: {service: shipping, mode: unreachable}"]


@pytest.mark.parametrize("fault", BY_NETWORK)
def test_who_may_not_lose_packets_cannot_have_it_of_a_toxiproxy(tmp_path: Path, fault: str) -> None:
    found = resolved(tmp_path, fault)

    assert needs_embedded(found.experiment) == ""
    assert check_runs_with_toxiproxy(found) is found
    assert "losing packets before a Toxiproxy takes root" in needs_embedded(found.experiment, may_lose_packets=False)
    with pytest.raises(InvalidFile, match=r"losing packets before a Toxiproxy takes root.*: use --engine embedded"):
        check_runs_with_toxiproxy(found, may_lose_packets=False)


def test_what_proxies_can_do_needs_no_rights(tmp_path: Path) -> None:
    found = resolved(tmp_path, "isolate: {service: shipping}")

    assert needs_embedded(found.experiment, may_lose_packets=False) == ""


@pytest.mark.parametrize(
    ("user", "is_here", "engine"), [(0, True, "toxiproxy"), (1000, True, "embedded"), (0, False, "embedded")]
)
def test_the_engine_that_can_is_taken_where_nobody_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, is_here: bool, engine: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    choice = Choice("auto", "an engine answers", DockerEngine("unix:///x", "20", "2.32.4", is_here=is_here))

    taken, why = engine_for(choice, resolved(tmp_path, BY_NETWORK[1]).experiment)

    assert taken == engine
    assert engine == "toxiproxy" or "losing packets" in why
