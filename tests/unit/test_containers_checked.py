"""What a scenario comes to where it is run in containers: which edges get a proxy, and what is said beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InvalidFile
from harness.model import runnable
from harness.model.compose import Compose
from harness.model.compose_reading import read_compose
from harness.model.resolving import Resolved, resolve
from harness.model.runnable import check_runs_in_containers
from tests.systems import SCENARIO, SYSTEM, write_system


def checked(folder: Path, *, system: str = SYSTEM, scenario: str = SCENARIO, **external: tuple[str, ...]) -> Resolved:
    def read(files: Sequence[Path], environ: Mapping[str, str]) -> Compose:
        return replace(read_compose(files, environ)[0], **external)

    return check_runs_in_containers(resolve(write_system(folder, system=system, scenario=scenario), compose_of=read))


def proxied(resolved: Resolved) -> set[str]:
    return {edge.name for edge in resolved.experiment.system.edges}


def unproxied(resolved: Resolved) -> set[str]:
    return {edge.name for edge in resolved.experiment.system.unproxied}


ALL = {"client -> gateway", "gateway -> order", "order -> postgres", "order -> shipping", "order -> redis"}


def test_every_edge_gets_a_proxy(tmp_path: Path) -> None:
    assert proxied(checked(tmp_path)) == ALL


def test_gently_interposed_only_the_way_in_and_what_a_fault_strikes_do(tmp_path: Path) -> None:
    found = checked(tmp_path, system=SYSTEM + "interpose: faulted\n")

    assert proxied(found) == {"client -> gateway", "order -> shipping"}
    assert unproxied(found) == ALL - proxied(found)


def test_a_fault_on_a_service_itself_strikes_all_edges_into_it(tmp_path: Path) -> None:
    paused = SCENARIO.replace("outage: {service: shipping}", "pause: {service: postgres}")

    assert proxied(checked(tmp_path, system=SYSTEM + "interpose: faulted\n", scenario=paused)) == {
        "client -> gateway",
        "order -> postgres",
    }


def test_all_ports_of_one_callee_are_led_through_together(tmp_path: Path) -> None:
    compose = SYSTEM + "interpose: faulted\nedges: ['order -> shipping:9000']\n"
    struck = SCENARIO.replace("outage: {service: shipping}", "outage: {edge: 'order -> shipping:9000'}")
    struck = struck.replace("  - fallback: shipping-deferred\n", "")
    named = compose.replace("for: order -> shipping", "for: order -> shipping:8000")

    assert proxied(checked(tmp_path, system=named, scenario=struck)) == {
        "client -> gateway",
        "order -> shipping:8000",
        "order -> shipping:9000",
    }


def test_a_way_out_for_nobody_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile) as raised:
        checked(tmp_path, system=SYSTEM + "egress: [order, shiping]\n")

    assert [str(problem).partition("system.yaml:")[2] for problem in raised.value.problems] == [
        "21:17: expected a service of the Compose file, found 'shiping'; did you mean 'shipping'?"
    ]


def test_a_system_that_will_take_long_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not checked(tmp_path).system.warnings

    monkeypatch.setattr(runnable, "MANY_EDGES", 3)

    assert any("interpose: faulted" in warning for warning in checked(tmp_path).system.warnings)


def test_a_volume_that_is_not_the_runs_own_is_told(tmp_path: Path) -> None:
    assert "data" in "".join(checked(tmp_path, external_volumes=("data",)).system.warnings)


def test_networks_that_services_of_ones_own_are_on_are_refused_where_they_would_be_kept(tmp_path: Path) -> None:
    assert proxied(checked(tmp_path, external_networks=("company",))) == ALL

    with pytest.raises(InvalidFile, match="company"):
        checked(tmp_path, system=SYSTEM + "interpose: faulted\n", external_networks=("company",))
