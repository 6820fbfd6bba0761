"""Toxiproxy and the embedded engine side by side: one suite for both, and a table of where they differ on purpose.

`DIFFERENCES` is the whole of it: wherever it has no entry, both give the same answer to the same assertion.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from harness.runtime.ports import Address
from tests.contract.proxies_rig import (
    PATIENCE,
    Callee,
    connect,
    embedded_command,
    eventually,
    free_address,
    served,
    toxiproxy_command,
)

SERVER = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")
COMMAND_LINE = os.environ.get("TOXIPROXY_CLI") or shutil.which("toxiproxy-cli")

needs_real = pytest.mark.skipif(
    SERVER is None, reason="no real Toxiproxy: name its program in TOXIPROXY_SERVER or put toxiproxy-server on PATH"
)
ENGINES = [pytest.param("real", marks=needs_real), "embedded"]

NOBODY = "127.0.0.1:1"
"""An upstream at which nobody listens."""

HANGS_AFTER = 1.5
"""Seconds without an answer after which a call of the control API counts as hanging."""


@dataclass(frozen=True)
class Difference:
    """What each of the two says or does, and why the embedded engine does not do as Toxiproxy does."""

    real: Any
    embedded: Any
    why: str


DIFFERENCES = {
    # the control API
    "the version": Difference(
        {"version"}, {"version", "engine"}, "Whoever drives it must be able to tell which of the two it is."
    ),
    "a name with a slash": Difference(201, 400, "Toxiproxy makes the proxy, and then no URL leads to it."),
    "unknown keys": Difference(200, 400, "A key that is misspelt and ignored is a fault that never was."),
    "unvalidated upstream": Difference(
        201, 400, "An upstream without a port can never be reached, so it is refused while somebody looks."
    ),
    "listening by default": Difference(
        "[::]", "127.0.0.1", "An engine of faults is not for the whole network unless that was asked for."
    ),
    "how a stream is spelt": Difference("UpStream", "upstream", "There are two streams, and each is shown in one spelling."),
    "unvalidated toxicity": Difference(200, 400, "A share below 0 or above 1 means never or always, and nobody meant that."),
    "unvalidated attributes": Difference(200, 400, "A value out of its range does not do what it says; some end Toxiproxy."),
    "a toxic half changed": Difference(77, 0, "A change that is refused has changed nothing."),
    "a proxy half moved": Difference(False, True, "A proxy that cannot move to where it is asked stays where it was."),
    "a proxy half replaced": Difference(
        (False, True), (True, False), "A proxy that cannot be replaced goes on as it was, its connections too."
    ),
    "a reset that fails": Difference("bind", "both", "What cannot be enabled keeps no other proxy from being healed."),
    "toxics in populate": Difference(
        ([], b"answer"),
        (["short"], b"ans"),
        "What is asked for is set, before the first connection, rather than dropped without a word.",
    ),
    "the wildcard populated again": Difference(
        [], ["slow"], "0.0.0.0 is the same address as before: nothing is restarted, no toxic is lost."
    ),
    "metrics without a flag": Difference(404, 200, "They cost nothing here, so nobody needs to ask for them beforehand."),
    "the option -seed": Difference(
        False, True, "Toxiproxy throws away what it makes of its -seed; here one seed strikes the same again."
    ),
    "a seed": Difference(False, True, "A toxic's own seed decides whom it strikes, whatever else the engine draws."),
    # data
    "an upstream that is silent": Difference(
        "hangs", 200, "Toxiproxy dials in its accept loop, so that nothing can be changed meanwhile."
    ),
    "the answer after a half-close": Difference(b"", b"answer", "A caller that has sent all it has still gets its answer."),
    "toxicity after a change nearby": Difference(
        False, True, "Whom a toxic strikes is drawn once for each connection, whatever happens beside it."
    ),
    "timeout removed, connection not struck": Difference(True, False, "A connection that lost nothing need not be closed."),
    "reset_peer on a connection that was open": Difference(
        "close", "reset", "It is called reset, so it resets, whenever the connection began."
    ),
    "reset_peer at toxicity 0": Difference("reset", "close", "A toxic that strikes nobody changes nobody's close."),
    "reset_peer removed while it waits": Difference(
        "hangs", 204, "A wait that cannot be interrupted blocks every call for this proxy."
    ),
    # robustness
    "a client that never reads": Difference(
        "hangs", 200, "Toxiproxy's toxics deadlock with a reader that does not read; there are no locks here."
    ),
    "clients that leave early": Difference("hangs", 200, "The same deadlock, with services that give up on a slow answer."),
    "a bandwidth below 0": Difference("ends", 400, "Toxiproxy panics when the next data come."),
    "a variation above the average": Difference("ends", 400, "Toxiproxy panics when the next data come."),
    "a jitter beyond all bounds": Difference("ends", 400, "Toxiproxy panics when the next data come."),
    "an average size of 0": Difference(
        None, 400, "Toxiproxy recurses until its stack ends at 1 GB, which no test should do to a machine."
    ),
}


class Engine:
    """One of the two, as a process, and how it is asked."""

    def __init__(self, name: str, control: Address, pid: int) -> None:
        self.name, self.control, self.pid = name, control, pid
        self._session = requests.Session()
        self._session.trust_env = False

    def says(self, what: str) -> Any:
        """What this one says or does where the two differ."""
        difference = DIFFERENCES[what]
        return difference.real if self.name == "real" else difference.embedded

    def __call__(self, method: str, path: str, data: Any = None, *, within: float = PATIENCE, **more: Any) -> requests.Response:
        if data is not None:
            more["data"] = data if isinstance(data, bytes | Iterator) else json.dumps(data)
        return self._session.request(method, f"http://{self.control}{path}", timeout=within, **more)

    def outcome(self, method: str, path: str, data: Any = None) -> Any:
        """The status of the answer; `hangs` where none comes."""
        try:
            return self(method, path, data, within=HANGS_AFTER).status_code
        except requests.Timeout:
            return "hangs"

    def made(self, name: str = "p", upstream: object = NOBODY, **more: Any) -> Address:
        """A proxy of this name; where it listens."""
        given = {"name": name, "upstream": str(upstream), "listen": "127.0.0.1:0", **more}
        answer = self("POST", "/proxies", given)
        assert answer.status_code == 201, answer.text
        return address(answer.json()["listen"])

    def toxic(self, kind: str, stream: str = "downstream", proxy: str = "p", more: Any = None, **attributes: int) -> str:
        """A toxic on the proxy; its name."""
        given = {"type": kind, "stream": stream, "attributes": attributes, **(more or {})}
        answer = self("POST", f"/proxies/{proxy}/toxics", given)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["name"])

    def change(self, toxic: str, proxy: str = "p", **attributes: int) -> None:
        answer = self("PATCH", f"/proxies/{proxy}/toxics/{toxic}", {"attributes": attributes})
        assert answer.status_code == 200, answer.text

    def remove(self, toxic: str, proxy: str = "p") -> None:
        assert self("DELETE", f"/proxies/{proxy}/toxics/{toxic}").status_code == 204

    def shown(self, proxy: str = "p") -> Any:
        return self("GET", f"/proxies/{proxy}").json()

    def toxics(self, proxy: str = "p") -> list[str]:
        return [toxic["name"] for toxic in self.shown(proxy)["toxics"]]

    def clear(self) -> None:
        for name in self("GET", "/proxies").json():
            assert self("DELETE", f"/proxies/{name}").status_code == 204


@contextmanager
def running(name: str, folder: Path, *more: str) -> Iterator[Engine]:
    """One of the two engines for as long as it is needed."""
    command = toxiproxy_command(str(SERVER)) if name == "real" else embedded_command
    with served(lambda control: [*command(control), *more], folder) as server:
        yield Engine(name, server.control, server.process.pid)


def address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


def error(answer: requests.Response) -> tuple[int, str]:
    """Status and message of an error, which all look alike."""
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text.endswith("}\n")
    data = answer.json()
    assert set(data) == {"error", "status"}
    assert data["status"] == answer.status_code
    return answer.status_code, data["error"]


class Asked(Callee):
    """Answers each piece that it gets with `answer`, and remembers what it got."""

    def __init__(self, answer: bytes = b"answer") -> None:
        self._answer = answer
        super().__init__(self._serve_one)

    def _serve_one(self, sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                self.received += data
                sock.sendall(self._answer)


class Sender(Callee):
    """Sends this to whoever comes, and waits until they leave."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(self._send)

    def _send(self, sock: socket.socket) -> None:
        with sock:
            sock.sendall(self._data)
            sock.recv(1)


class Controlled(Callee):
    """Does nothing by itself: the test has both ends."""

    def __init__(self) -> None:
        super().__init__(lambda _sock: None)
        self._callers: list[socket.socket] = []

    def pair(self, listen: Address) -> tuple[socket.socket, socket.socket]:
        """A connection through the proxy: the caller's end and the callee's."""
        before = len(self.accepted)
        caller = connect(listen)
        self._callers.append(caller)
        assert eventually(lambda: len(self.accepted) > before)
        callee = self.accepted[before]
        callee.settimeout(PATIENCE)
        return caller, callee

    def close(self) -> None:
        for caller in self._callers:
            caller.close()
        super().close()


def how_it_ends(sock: socket.socket) -> str:
    """`close` or `reset`, whatever came before."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return "reset"
    return "close"


def has_ended(process_answers: Engine) -> bool:
    """Whether the engine is gone."""
    with suppress(OSError):
        connect(process_answers.control).close()
        return False
    return True


def somewhere() -> str:
    return str(free_address())
