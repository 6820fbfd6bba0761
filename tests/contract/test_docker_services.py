"""The port `Services`, by containers: the suites that local processes are held to, and what only containers can have."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from harness.errors import InvalidInput, ServiceNotReady
from harness.history.events import Event, UndoFailed
from harness.model.compose_config import compose_from_config
from harness.plan.plan import PlannedProxy
from harness.runtime.containers.compose import compose_config
from harness.runtime.containers.engine import DockerEngine, find_engine
from harness.runtime.containers.images import engine_container
from harness.runtime.containers.removal import PREFIX
from harness.runtime.containers.rewrite import Asked, Wanted, rewrite
from harness.runtime.containers.services import ContainerSystem, DockerServices
from harness.runtime.containers.subnets import Subnets, free_blocks
from harness.runtime.containers.surroundings import free_ports, taken_networks
from harness.runtime.ports import Address
from harness.runtime.processes import JournaledLaunch
from harness.runtime.undo import RemoveProject, UndoJournal, make_run_folder
from tests.contract.services_contract import ContainerFaultsContract, Scene
from tests.contract.test_services import TINY, Brought, ServicesContract
from tests.end_to_end.docker_rig import images, python_image

pytestmark = [pytest.mark.slow, pytest.mark.docker]

CHECK = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=1)"


@dataclass
class DockerRig:
    """One run's worth of what DockerServices needs."""

    folder: Path
    engine: DockerEngine
    journal: UndoJournal
    launch: JournaledLaunch
    temporary: Path
    project: str = field(default_factory=lambda: f"{PREFIX}suite-{secrets.token_hex(4)}")
    undone: list[object] = field(default_factory=list)
    services: DockerServices | None = None

    def bring(self, services: Mapping[str, dict[str, Any]]) -> Brought:
        """Services of `tiny_service.py`, ready to be started: a behaviour for each, and what else Compose is to know."""
        (self.folder / "compose.json").write_text(json.dumps(model_of(services)), encoding="utf-8")
        config = compose_config([self.folder / "compose.json"], os.environ, self.project)
        asked, first = [Asked(name, 8000) for name in services], next(iter(services))
        client = self.engine.client()
        block = next(free_blocks(taken_networks(client, is_here=self.engine.is_here), self.project))
        client.close()
        rewritten = rewrite(
            config,
            Wanted(
                project=self.project,
                compose=compose_from_config(config),
                proxies=[PlannedProxy(name="way in", caller="client", callee=first, port=8000, protocol="http")],
                engine=engine_container("toxiproxy", self.temporary, ""),
                subnets=Subnets(block),
                published_on=self.engine.published_on,
                host_ports=free_ports(self.engine, 2 + len(asked)),
                asked=asked,
                limited=services.keys(),
            ),
        )
        model = self.temporary / "model.json"
        model.write_text(json.dumps(rewritten.model), encoding="utf-8")
        at = {one: Address(self.engine.published_on, rewritten.published[one.proxy]) for one in asked}
        system = ContainerSystem(self.engine, self.project, model, tuple(services), at, {name: {} for name in services})
        events: list[Event] = []
        self.services = DockerServices(system, self.launch, events.append, lambda name: self.folder / f"{name}.log")
        return Brought(self.services, self.take_down, events)

    def take_down(self) -> None:
        if self.services is not None:
            self.services.close()
        self.journal.undo_all(self.undone.append)
        self.launch.collect()
        assert [event for event in self.undone if isinstance(event, UndoFailed)] == []


def model_of(services: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A Compose file of tiny services."""
    return {
        "services": {
            name: {
                "image": python_image(),
                "init": True,
                "command": ["python3", "-u", "/tiny_service.py", said.pop("behaviour", "serves"), "0.0.0.0", "8000"],
                "configs": [{"source": "tiny", "target": "/tiny_service.py"}],
                **said,
            }
            for name, said in ((name, dict(said)) for name, said in services.items())
        },
        "configs": {"tiny": {"content": TINY.read_text(encoding="utf-8").replace("$", "$$")}},
    }


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerRig]:
    for name, image in images().items():
        monkeypatch.setenv(name, image)
    journal = UndoJournal(tmp_path / "undo.jsonl")
    engine = find_engine(os.environ)
    rig = DockerRig(tmp_path, engine, journal, JournaledLaunch(journal), make_run_folder(journal))
    journal.before(RemoveProject(rig.project, engine.host, engine.certificates))
    yield rig
    rig.take_down()
    journal.close()


def checked(behaviour: str, **more: Any) -> dict[str, Any]:
    check = {"test": ["CMD", "python3", "-c", CHECK], "interval": "300ms", "timeout": "3s", "retries": 5}
    return {"behaviour": behaviour, "healthcheck": check, **more}


class TestDockerServices(ServicesContract):
    """Containers, with health checks."""

    @pytest.fixture
    def system(self, rig: DockerRig) -> Callable[..., Brought]:
        def prepare(after: Mapping[str, Mapping[str, str]] | None = None, **behaviours: str) -> Brought:
            waits = {name: {other: {"condition": how} for other, how in on.items()} for name, on in (after or {}).items()}
            return rig.bring({name: checked(how, depends_on=waits.get(name, {})) for name, how in behaviours.items()})

        return prepare

    def test_a_service_that_never_becomes_ready_is_given_up_with_the_reason(self, system: Callable[..., Brought]) -> None:
        """Here the health check decides how long that takes, and what it said is told after the log."""
        brought = system(order="never-ready")

        with pytest.raises(ServiceNotReady, match="its health check says unhealthy") as raised:
            brought.services.start()

        assert raised.value.log[0] == "tiny service: never-ready"
        assert raised.value.log[-1].startswith("health check: ")
        assert "503" in raised.value.log[-1]

    def test_services_that_wait_for_each_other_are_an_error(self, system: Callable[..., Brought]) -> None:
        """Here Compose finds it, when the files are read."""
        waiting = {"order": {"payment": "service_started"}, "payment": {"order": "service_started"}}

        with pytest.raises(InvalidInput, match="dependency cycle detected"):
            system(order="serves", payment="serves", after=waiting)


class TestDockerServicesUnderFaults(ContainerFaultsContract):
    """Faults on containers."""

    runtime = "docker"

    @pytest.fixture
    def bring(self, rig: DockerRig) -> Callable[..., Scene]:
        def prepare(replicas: int = 1, **policies: str) -> Scene:
            several = {"scale": replicas} if replicas > 1 else {}
            brought = rig.bring({name: {"restart": policy or "no", **several} for name, policy in policies.items()})
            brought.services.start()

            def ask(service: str, path: str) -> str:
                with urlopen(f"http://{brought.services.address(service)}{path}", timeout=1) as answer:
                    return str(answer.read().decode())

            return Scene(brought.services, brought.events, ask)

        return prepare


def test_a_service_without_a_health_check_that_exits_soon_did_not_come_up(rig: DockerRig) -> None:
    brought = rig.bring({"order": {"behaviour": "exits"}, "payment": {}})

    with pytest.raises(ServiceNotReady, match="order did not come up: it ended: exit code 1"):
        brought.services.start()
