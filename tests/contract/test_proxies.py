"""One suite for everything that stands behind the port `Proxies`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runtime.ports import Proxies
from tests.contract.memory_proxies import MemoryProxies
from tests.contract.proxies_contract import ProxiesContract, TrafficContract
from tests.contract.proxies_rig import embedded, real_toxiproxy

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
        with real_toxiproxy(TOXIPROXY or "", tmp_path) as engine:
            yield engine
