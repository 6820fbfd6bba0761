"""The embedded engine in a container: what it is built from, and what it does between two networks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import ProxyError
from harness.history.events import EdgeSeen
from harness.plan.plan import CLEAN
from harness.runtime.ports import Address, ProxyMade
from harness.runtime.probes.bite import Asking, look
from harness.runtime.proxies import image
from harness.runtime.proxies.image import build_args, image_tag, write_build_context
from harness.runtime.proxies.toxiproxy import ToxiproxyEngine
from tests.contract.proxies_containers import (
    Edge,
    answers,
    container,
    docker,
    embedded_image,
    embedded_on_an_edge,
)
from tests.contract.proxies_contract import DISABLED
from tests.contract.proxies_rig import PATIENCE, embedded, eventually, free_address

CONSTRAINTS = Path(__file__).parent.parent.parent / "constraints.txt"
EDGE = "a -> b"


class TestWhatItIsBuiltFrom:
    def test_the_build_has_the_engines_own_modules_and_no_others(self, tmp_path: Path) -> None:
        write_build_context(tmp_path, {})

        files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        modules = {name for name in files if name.endswith(".py")}
        assert files - modules == {"Dockerfile", "requirements.txt", "certificates.crt"}
        assert {"harness/__init__.py", "harness/runtime/proxies/embedded/__main__.py"} <= modules
        assert {name for name in modules if not name.startswith("harness/runtime/proxies/embedded/")} == {
            "harness/__init__.py",
            "harness/runtime/__init__.py",
            "harness/runtime/proxies/__init__.py",
        }

    def test_the_engine_runs_from_these_files_alone(self, tmp_path: Path) -> None:
        write_build_context(tmp_path, {})

        found = subprocess.run(
            [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded", "--config", "none.json"],
            env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, check=False, capture_output=True, text=True,
        )  # fmt: skip

        assert (found.returncode, found.stderr.count("\n")) == (2, 1)
        assert "none.json cannot be read" in found.stderr

    def test_its_parts_have_the_versions_that_the_project_is_tested_with(self) -> None:
        wanted = {line for line in (image.PACKAGE / image.ENGINE / "requirements.txt").read_text().splitlines() if "==" in line}

        assert {line.partition("==")[0] for line in wanted} == {"uvloop", "httptools"}
        assert wanted <= set(CONSTRAINTS.read_text().splitlines())

    def test_other_content_and_another_base_have_another_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = image_tag()
        assert image_tag() == first
        assert image_tag("debian:13") != first
        package = tmp_path / "harness"
        shutil.copytree(image.PACKAGE / image.ENGINE, package / image.ENGINE)
        for module in image.ENCLOSING:
            shutil.copyfile(image.PACKAGE / module, package / module)
        monkeypatch.setattr(image, "PACKAGE", package)
        assert image_tag() == first

        with (package / image.ENGINE / "relay.py").open("a") as module:
            module.write("# other\n")

        assert image_tag() != first

    def test_what_pip_is_told_here_it_is_told_in_the_build_unless_it_is_a_path_of_this_machine(self, tmp_path: Path) -> None:
        trusted = tmp_path / "own.crt"
        trusted.write_text("a certificate")
        environment = {
            "PIP_INDEX_URL": "https://packages.example/simple",
            "PIP_FIND_LINKS": "/wheels",
            "PIP_CERT": str(trusted),
        }

        assert build_args("python:3.13-slim", environment) == {
            "BASE_IMAGE": "python:3.13-slim",
            "PIP_INDEX_URL": "https://packages.example/simple",
        }
        assert build_args(environment={}) == {}
        write_build_context(tmp_path / "build", environment)
        assert (tmp_path / "build" / "certificates.crt").read_text() == "a certificate"

    def test_without_certificates_of_its_own_the_build_trusts_what_the_base_does(self, tmp_path: Path) -> None:
        write_build_context(tmp_path, {"PIP_CERT": "/no/such/file"})

        assert (tmp_path / "certificates.crt").read_bytes() == b""


class TestHowItIsStarted:
    def test_proxies_of_its_configuration_are_there_before_it_answers(self, tmp_path: Path) -> None:
        proxies = [ProxyMade(name, free_address(), free_address()) for name in (EDGE, "c -> d:80")]
        config = tmp_path / "proxies.json"
        config.write_text(json.dumps([{"name": p.name, "listen": str(p.listen), "upstream": str(p.upstream)} for p in proxies]))

        with embedded(tmp_path, "--config", str(config)) as started:
            started.engine.adopt(proxies)

            assert [edge.proxy for edge in started.engine.seen()] == [EDGE, "c -> d:80"]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "no.json: expected a JSON array of proxies, found no JSON"),
            ("{}", "no.json: expected a JSON array of proxies, found an object"),
            ('[{"name": "x"}]', "no.json:1:2: proxy 1 (x): missing required field: upstream"),
            ('[{"name": "x", "upstream": "b:1", "lisen": "c:1"}]', "a proxy has no lisen"),
            ('[{"name": "x", "upstream": "b:1", "listen": "10.1.2.3:1"}]', "expected a loopback address, found 10.1.2.3:1"),
            (None, "no.json cannot be read (No such file or directory)"),
        ],
    )
    def test_a_configuration_that_cannot_be_used_is_an_error(self, tmp_path: Path, content: str | None, reason: str) -> None:
        config = tmp_path / "no.json"
        if content is not None:
            config.write_text(content)

        found = subprocess.run(
            [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded", "--port", "0", "--config", str(config)],
            check=False, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip

        assert found.returncode == 2
        assert reason in found.stderr
        assert "Traceback" not in found.stderr

    def test_several_sources_and_networks_may_be_left_out(self, tmp_path: Path) -> None:
        with embedded(tmp_path, "--ignore-source", "127.8.0.0/16", "--ignore-source", "127.7.7.7") as started:
            proxy = ProxyMade(EDGE, free_address(), free_address())
            started.engine.create([proxy])
            for source in ("127.9.9.9", "127.8.1.1", "127.8.200.3", "127.7.7.7", "127.7.7.8"):
                look(proxy.listen, "tcp", Asking(patience=PATIENCE), source=source)

            assert [edge.accepted for edge in started.engine.seen()] == [1]

    def test_a_health_check_tells_an_engine_that_answers_from_none(self, tmp_path: Path) -> None:
        def check(*words: str) -> subprocess.CompletedProcess[str]:
            module = [sys.executable, "-P", "-m", "harness.runtime.proxies.embedded", "--check"]
            return subprocess.run([*module, *words], check=False, capture_output=True, text=True, timeout=PATIENCE)

        with embedded(tmp_path) as started:
            assert check(str(started.control)).returncode == 0
        nobody = check(str(started.control))
        assert nobody.returncode == 1
        assert f"no embedded engine answers at {started.control}\n" in nobody.stderr
        assert "expected HOST:PORT, found 'x'" in check("x").stderr


@pytest.mark.slow
@pytest.mark.docker
class TestBetweenTwoNetworks:
    @pytest.fixture
    def edge(self, tmp_path: Path) -> Iterator[Edge]:
        with embedded_on_an_edge(tmp_path, Address("callee", 8000)) as there:
            assert eventually(lambda: answers(ToxiproxyEngine(there.control))), docker("logs", there.container)
            yield there

    @pytest.fixture
    def engine(self, edge: Edge) -> ToxiproxyEngine:
        engine = ToxiproxyEngine(edge.control)
        engine.adopt([ProxyMade(EDGE, Address(edge.address, 8000), Address("callee", 8000))])
        return engine

    def test_it_is_healthy(self, edge: Edge) -> None:
        assert eventually(lambda: docker("inspect", "-f", "{{.State.Health.Status}}", edge.container) == "healthy")

    def test_a_caller_is_forwarded_and_counted_and_the_harness_is_not(self, edge: Edge, engine: ToxiproxyEngine) -> None:
        options = ("--network", edge.networks[0], "--network-alias", "callee", "--entrypoint", "python")
        with container(embedded_image(), "-m", "http.server", "8000", options=options):
            assert eventually(lambda: look(Address(edge.address, 8000), "http", Asking(patience=2)).outcome == "answered")
            assert ask(edge) == "200 200 200"

        (seen,) = engine.seen()
        assert (seen.accepted, seen.requests, seen.answers) == (3, 3, {"200": 3})

    def test_attempts_that_are_refused_are_counted_and_those_of_the_harness_are_not(
        self, edge: Edge, engine: ToxiproxyEngine
    ) -> None:
        engine.put(EDGE, DISABLED)
        assert look(Address(edge.address, 8000), "http", Asking(patience=2)).outcome == "refused"
        assert ask(edge) == "refused refused refused"
        engine.put(EDGE, CLEAN)

        (seen,) = engine.seen()
        assert seen == EdgeSeen(seen.at, EDGE, 0, 3, 0, 0, 0, 0, struck={})

    def test_the_control_api_is_not_reached_from_the_edge(self, edge: Edge, engine: ToxiproxyEngine) -> None:
        assert ask(edge, 8474) == "refused refused refused"
        assert look(Address(edge.address, 8474), "tcp", Asking(patience=2)).outcome == "refused"
        with pytest.raises(ProxyError):
            ToxiproxyEngine(Address(edge.address, 8474)).version()

    def test_it_ends_at_once_when_it_is_stopped(self, edge: Edge) -> None:
        docker("stop", "-t", "5", edge.container)

        assert docker("inspect", "-f", "{{.State.ExitCode}}", edge.container) == "0"


ASK = """
import sys, urllib.error, urllib.request
for _ in range(3):
    try:
        print(urllib.request.urlopen(f"http://{sys.argv[1]}/", timeout=5).status, end=" ")
    except urllib.error.URLError as error:
        print("refused" if isinstance(error.reason, ConnectionRefusedError) else error, end=" ")
"""


def ask(edge: Edge, port: int = 8000) -> str:
    """How a caller on the edge's network fares, three times."""
    where = ("--network", edge.networks[1], "--entrypoint", "python")
    return docker("run", "--rm", *where, embedded_image(), "-c", ASK, f"{edge.address}:{port}")
