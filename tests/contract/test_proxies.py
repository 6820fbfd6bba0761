"""One suite for everything that stands behind the port `Proxies`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.history.events import Event
from harness.runtime.ports import Address, Proxies
from harness.runtime.proxies.supervised import SupervisedEngine
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.memory_proxies import MemoryProxies
from tests.contract.proxies_containers import TOXIPROXY_IMAGE, embedded_image, engine_on_host, remove_proxies
from tests.contract.proxies_contract import ProxiesContract, TrafficContract
from tests.contract.proxies_rig import Server, embedded, embedded_command, served, toxiproxy_command

TOXIPROXY = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")

needs_toxiproxy = pytest.mark.skipif(
    TOXIPROXY is None, reason="no real Toxiproxy: name its program in TOXIPROXY_SERVER or put toxiproxy-server on PATH"
)


class TestMemoryProxies(ProxiesContract):
    @pytest.fixture
    def proxies(self) -> Proxies:
        return MemoryProxies()


class TestEmbeddedEngine(ProxiesContract, TrafficContract):
    @pytest.fixture
    def proxies(self, tmp_path: Path) -> Iterator[Proxies]:
        with embedded(tmp_path) as started:
            yield started.engine


@needs_toxiproxy
class TestRealToxiproxy(ProxiesContract, TrafficContract):
    @pytest.fixture
    def proxies(self, tmp_path: Path) -> Iterator[Proxies]:
        with served(toxiproxy_command(TOXIPROXY or ""), tmp_path) as server:
            yield server.engine


class TestSupervisedEmbeddedEngine(ProxiesContract):
    @pytest.fixture
    def proxies(self, tmp_path: Path) -> Iterator[Proxies]:
        with served(embedded_command, tmp_path) as server, supervised(server) as engine:
            yield engine


@needs_toxiproxy
class TestSupervisedToxiproxy(ProxiesContract, TrafficContract):
    @pytest.fixture
    def proxies(self, tmp_path: Path) -> Iterator[Proxies]:
        with served(toxiproxy_command(TOXIPROXY or ""), tmp_path) as server, supervised(server) as engine:
            yield engine


@contextmanager
def supervised(server: Server) -> Iterator[SupervisedEngine]:
    """An engine that is looked after, and that never had to be restarted."""
    recorded: list[Event] = []
    engine = SupervisedEngine(server.control, engine_at=ToxiproxyEngine, restart=server.restart, record=recorded.append)
    engine.begin()
    try:
        yield engine
    finally:
        engine.close()
    assert recorded == []


@pytest.fixture(scope="module")
def toxiproxy_container() -> Iterator[Address]:
    with engine_on_host(TOXIPROXY_IMAGE) as control:
        yield control


@pytest.fixture(scope="module")
def embedded_container() -> Iterator[Address]:
    with engine_on_host(embedded_image(), "--any-interface") as control:
        yield control


@pytest.mark.slow
@pytest.mark.docker
class TestToxiproxyInAContainer(ProxiesContract, TrafficContract):
    @pytest.fixture
    def proxies(self, toxiproxy_container: Address) -> Iterator[Proxies]:
        yield ToxiproxyEngine(toxiproxy_container)
        remove_proxies(toxiproxy_container)


@pytest.mark.slow
@pytest.mark.docker
class TestEmbeddedInAContainer(ProxiesContract, TrafficContract):
    @pytest.fixture
    def proxies(self, embedded_container: Address) -> Iterator[Proxies]:
        yield ToxiproxyEngine(embedded_container)
        remove_proxies(embedded_container)
