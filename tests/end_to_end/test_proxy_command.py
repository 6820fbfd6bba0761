"""`chaos proxy`, as somebody uses it who has Toxiproxy's configuration and clients; and every command of its page."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from harness.runtime.proxies.embedded.metrics import FAMILIES
from tests.contract.proxies_rig import PATIENCE, eventually, free_address, refuses
from tests.contract.standalone import CHAOS, Standalone, run, standalone
from tests.contract.test_proxies_engine import HttpCallee
from tests.contract.toxiproxy_conformance import COMMAND_LINE
from tests.end_to_end.chaos import PROJECT

PAGE = (PROJECT / "docs" / "embedded-engine.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


class Anything(HttpCallee):
    """Answers every request with 200."""

    def _answer(self, sock: object) -> None:
        with sock, sock.makefile("rb") as lines:  # type: ignore[attr-defined]
            while lines.readline():
                while lines.readline().strip():
                    pass
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")  # type: ignore[attr-defined]


@pytest.fixture
def callee() -> Iterator[Anything]:
    there = Anything()
    yield there
    there.close()


@pytest.fixture
def engine() -> Iterator[Standalone]:
    with standalone(command=CHAOS) as started:
        yield started


def test_help_and_wrong_usage_are_those_of_the_command() -> None:
    shown = run("--help", command=CHAOS)
    wrong = run("--prot", "1", command=CHAOS)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: chaos proxy ")
    assert wrong.returncode == 2
    assert "chaos proxy: error: unrecognized arguments: --prot 1" in wrong.stderr


def test_every_option_of_the_command_is_on_its_page_and_no_other() -> None:
    shown = set(re.findall(r"^\s+(?:-\w, )?(--[\w-]+)", run("--help", command=CHAOS).stdout, re.MULTILINE)) - {"--help"}
    table = PAGE[PAGE.index("| option |") : PAGE.index("Toxiproxy's options are taken with one dash")]

    assert set(re.findall(r"^\|[^|]*?(--[\w-]+)`? ", table, re.MULTILINE)) | {"--port", "--verbose", "--check"} == shown


def test_every_metric_is_on_the_page_and_no_other() -> None:
    table = set(re.findall(r"^\| `((?:toxiproxy|chaos)_\w+)`", PAGE, re.MULTILINE))

    assert table == {name for name in FAMILIES if not name.startswith("process_")}


def test_what_is_wrong_ends_with_the_code_of_the_table_and_one_line(engine: Standalone, tmp_path: Path) -> None:
    config = tmp_path / "toxiproxy.json"
    config.write_text('[\n  {"name": "a", "upstream": "b:1", "lisen": "c:1"}\n]', encoding="utf-8")

    invalid = run("--config", str(config), "--port", "0", "--log-level", "error", command=CHAOS)
    taken = run("--host", engine.control.host, "--port", str(engine.control.port), command=CHAOS)

    assert invalid.returncode == 2
    assert invalid.stderr.startswith(f"chaos proxy: {config}:2:3: proxy 1 (a): a proxy has no lisen; did you mean listen?")
    assert taken.returncode == 5
    assert taken.stderr.startswith(f"chaos proxy: control API: cannot listen on {engine.control}: the engine ")
    assert invalid.stderr.count("\n") == taken.stderr.count("\n") == 1


def test_on_a_terminal_it_is_told_in_words_and_ctrl_c_ends_it_with_0(tmp_path: Path) -> None:
    control = free_address()
    mine, its = pty.openpty()
    command = ["setsid", "--ctty", *CHAOS, "--host", control.host, "--port", str(control.port)]
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its)
    os.close(its)
    try:
        told = os.read(mine, 4096).decode()
        while "Control API listens" not in told:
            told += os.read(mine, 4096).decode()
        os.write(mine, b"\x03")

        assert process.wait(PATIENCE) == 0
        told += _all_of(mine)
    finally:
        os.close(mine)
        if process.poll() is None:
            process.kill()
            process.wait()
    assert re.search(rf"\d\d:\d\d:\d\d info  Control API listens  addr={control}  proxies=0\r\n", told)
    assert re.search(r"info  Ending  reason=SIGINT\r\n", told)
    assert "Traceback" not in told


def _all_of(terminal: int) -> str:
    told = b""
    with suppress(OSError):  # its other end is closed
        while piece := os.read(terminal, 4096):
            told += piece
    return told.decode()


def test_toxiproxys_client_in_python_drives_it(engine: Standalone, callee: Anything, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(APIConsumer, "host", engine.control.host)
    monkeypatch.setattr(APIConsumer, "port", engine.control.port)
    client = Toxiproxy()
    assert client.running()

    proxy = client.create(name="web", upstream=str(callee.address), listen=str(free_address()))
    proxy.add_toxic(name="slow", type="latency", attributes={"latency": 300})
    began = time.monotonic()
    assert requests.get(f"http://{proxy.listen}/", timeout=PATIENCE).text == "hello"
    assert time.monotonic() - began >= 0.3
    assert list(client.get_proxy("web").toxics()) == ["slow"]
    proxy.disable()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{proxy.listen}/", timeout=PATIENCE)
    client.reset()
    assert requests.get(f"http://{proxy.listen}/", timeout=PATIENCE).text == "hello"
    client.destroy_all()
    assert client.proxies() == {}


@pytest.mark.skipif(COMMAND_LINE is None, reason="no Toxiproxy client: name its program in TOXIPROXY_CLI")
def test_toxiproxys_command_line_client_drives_it(engine: Standalone, callee: Anything) -> None:
    def told(*words: str) -> str:
        command = [str(COMMAND_LINE), "-h", f"http://{engine.control}", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout

    listen = free_address()
    assert "Created new proxy web" in told("create", "-l", str(listen), "-u", str(callee.address), "web")
    told("toxic", "add", "-t", "bandwidth", "-a", "rate=1000", "web")
    assert "bandwidth_downstream" in told("inspect", "web")
    told("toggle", "web")
    assert refuses(listen)
    told("toggle", "web")
    assert requests.get(f"http://{listen}/", timeout=PATIENCE).text == "hello"
    assert "Deleted proxy web" in told("delete", "web")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_every_command_of_the_page_works(callee: Anything, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    chaos = tmp_path / "bin" / "chaos"
    chaos.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness "$@"\n', encoding="utf-8")
    chaos.chmod(0o755)
    ports = {"8474": free_address(), **{f"800{n}": free_address() for n in (1, 2, 3)}}

    def mine(text: str) -> str:
        for port, address in ports.items():
            text = text.replace(f"127.0.0.1:{port}", str(address))
        return re.sub(r"127\.0\.0\.1:900\d", str(callee.address), text)

    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)}
    environment = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
    start, *others = (mine(block) for block in BLOCKS)
    assert start.endswith("chaos proxy --config toxiproxy.json\n")
    where = f" --host {ports['8474'].host} --port {ports['8474'].port}\n"
    with subprocess.Popen(
        ["bash", "-ec", "exec 2>&1\n" + start.removesuffix("chaos proxy --config toxiproxy.json\n") + "exec chaos proxy --config toxiproxy.json" + where],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True,
    ) as served:  # fmt: skip
        try:
            assert eventually(lambda: not refuses(ports["8474"]))
            for line in "".join(others).splitlines():
                done = subprocess.run(
                    ["bash", "-c", line],
                    check=False,
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        finally:
            served.send_signal(signal.SIGINT)
        told, _ = served.communicate(timeout=PATIENCE)
    assert served.returncode == 0, told
    assert "Traceback" not in told
