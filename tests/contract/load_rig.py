"""A small real server that fails in every way a server can, and a load against it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.history.requests import Request
from harness.history.store import read_requests
from harness.plan.plan import Arrivals
from harness.runtime.load.locust import LocustLoad
from tests.contract.launching import plain_launch


class Server:
    """Answers on loopback as the path asks: /ok /hole /trickle /status/N /reset /close /cut /nonsense; all wait while it is stalled."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, dict[str, str]]] = []
        self.stalled_until = 0.0
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0
        self.rude_port = 0

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1000))
        self.port = server.sockets[0].getsockname()[1]
        rude = self._loop.run_until_complete(asyncio.start_server(self._be_rude, "127.0.0.1", 0))
        self.rude_port = rude.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        rude.close()
        self._loop.run_until_complete(self._end())

    async def _end(self) -> None:
        """Nothing stays open, neither what is being answered nor what was accepted just now."""
        await asyncio.sleep(0.01)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                path = head[0].split()[1]
                self.asked.append((time.time(), path, headers))
                await asyncio.sleep(max(0.0, self.stalled_until - time.time()))
                if not await self._answer(path.split("?")[0], writer):
                    break
        writer.close()
        self._writers.discard(writer)

    async def _be_rude(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What speaks first, and speaks neither TLS nor HTTP."""
        writer.write(b"hello?\r\n\r\n")
        writer.close()

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        if path == "/hole":
            await asyncio.sleep(3600)
        if path == "/reset":
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if path == "/nonsense":
            writer.write(b"this is no HTTP\r\n\r\n")
        if path in {"/reset", "/close", "/nonsense"}:
            return False
        if path in {"/cut", "/trickle"}:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _ in range(0 if path == "/cut" else 100):
                writer.write(b".")
                await asyncio.sleep(0.1)
            return False
        status = int(path.rpartition("/")[2]) if path.startswith("/status/") else 200
        body = json.dumps({"shipping": {"status": "DEFERRED" if path == "/deferred" else "SHIPPED"}, "path": path}).encode()
        extra = b"X-Fallback: from-cache\r\n" if path == "/cached" else b""
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body))
        return True


@dataclass
class Records:
    """What a load wrote."""

    requests: tuple[Request, ...]
    notes: tuple[dict[str, Any], ...]

    def note(self, kind: str) -> dict[str, Any]:
        """The only note of a kind."""
        (found,) = (note for note in self.notes if note["load"] == kind)
        return found

    def outcomes(self, journey: str) -> set[str]:
        return {request.outcome for request in self.requests if request.journey == journey}


@dataclass
class Rig:
    """A load to be driven by hand."""

    folder: Path
    server: Server
    load: LocustLoad = field(init=False)
    launched: list[subprocess.Popen[bytes]] = field(default_factory=list)
    marks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.load = LocustLoad(self._launch, self.folder, self.folder / "load.log")

    @property
    def records_file(self) -> Path:
        return self.folder / "requests.jsonl"

    def file(self, text: str, name: str = "locustfile.py") -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, text: str | None = None, *, name: str = "locustfile.py", **changed: Any) -> None:
        path = self.file(text) if text is not None else self.folder / name
        given = {"rate": 50.0, "users": 60, "arrivals": "uniform", "timeout": 1.0, "seed": 7, "seconds": 5.0, **changed}
        self.load.start(Arrivals(locustfile=str(path), **given), self.server.url, self.marks, self.records_file)

    def go(self) -> float:
        at = time.time() + 0.1
        self.load.go(at)
        return at

    def run(self, text: str, seconds: float = 0.6, **changed: Any) -> Records:
        """Start, let it go on for some seconds, and stop."""
        self.start(text, **changed)
        at = self.go()
        time.sleep(max(0.0, at + seconds - time.time()))
        assert self.load.ended_early() is None
        self.load.stop()
        assert self.load.ended_early() is None
        return self.records()

    def run_until_seen(self, text: str, journeys: Iterable[str], **changed: Any) -> Records:
        """Start, let it go on until each of these journeys was recorded, and stop."""
        self.start(text, **changed)
        self.go()
        deadline = time.monotonic() + 20
        while set(journeys) - {request.journey for request in self.records().requests}:
            assert time.monotonic() < deadline, "not every journey was recorded"
            time.sleep(0.1)
        self.load.stop()
        return self.records()

    def records(self) -> Records:
        return Records(*read_requests(self.folder)[:2])

    def reason_of_end(self) -> str:
        """Why the load ended by itself; waits until it has."""
        deadline = time.monotonic() + 10
        while (reason := self.load.ended_early()) is None:
            assert time.monotonic() < deadline, "the load goes on"
            time.sleep(0.02)
        return reason

    def _launch(self, name: str, argv: Sequence[str], **given: Any) -> subprocess.Popen[bytes]:
        self.launched.append(plain_launch(name, argv, **given))
        return self.launched[-1]

    @property
    def pids(self) -> tuple[int, ...]:
        """Of its processes that live."""
        return tuple(process.pid for process in self.launched if process.poll() is None)

    @property
    def pid(self) -> int:
        (pid,) = self.pids
        return pid


@contextmanager
def load_rig(folder: Path) -> Iterator[Rig]:
    """A rig whose process is gone at the end, whatever happened."""
    with Server() as server:
        rig = Rig(folder, server)
        try:
            yield rig
        finally:
            rig.load.stop()


def browser(client: str, path: str = "/ok") -> str:
    """A locustfile with one user, who asks for one path again and again."""
    return f"""
    from locust import {client}, between, task

    class Browser({client}):
        wait_time = between(100, 200)

        @task
        def look(self):
            self.client.get("{path}")
    """
