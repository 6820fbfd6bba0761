"""The kernel's packet filter, in network namespaces of their own: what is lost, what is not, and that it is taken back."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from harness.runtime.containers import packet_filter
from harness.runtime.containers.packet_filter import Place, in_namespace, lose, lost

HERE = "127.0.0.1"
NOBODY, SETRESUID = 65534, 117

HOLD = """
import fcntl, socket, struct, sys, time
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x49))  # up and running
print("ready", flush=True)
sys.stdin.read()
"""


def why_not() -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are made by root, on Linux"
    tried = subprocess.run(["unshare", "-n", sys.executable, packet_filter.__file__, "lose"], capture_output=True, check=False)
    return tried.stderr.decode().strip()[-200:] if tried.returncode else ""


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@dataclass
class Namespace:
    """A network namespace, by a process in it."""

    pid: int

    def do(self, deed: Callable[[], Any]) -> Any:
        return in_namespace(f"/proc/{self.pid}/ns/net", deed)

    def listen(self) -> socket.socket:
        found: socket.socket = self.do(lambda: socket.create_server((HERE, 0)))
        return found

    def connect(self, port: int, timeout: float = 0.6) -> socket.socket:
        found: socket.socket = self.do(lambda: socket.create_connection((HERE, port), timeout))
        return found


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    holder = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == "ready\n"
        yield Namespace(holder.pid)
    holder.wait(10)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_a_handshake_gets_no_answer_and_an_open_connection_lives_on(namespace: Namespace) -> None:
    with namespace.listen() as listener, namespace.listen() as other, namespace.connect(port_of(listener)) as caller:
        callee, _ = listener.accept()
        with callee:
            found = namespace.do(lambda: lose([(HERE, port_of(listener))]))
            assert found == {(HERE, port_of(listener)): 0}

            with pytest.raises(TimeoutError):
                namespace.connect(port_of(listener))
            caller.sendall(b"asked")
            callee.sendall(b"told")
            for end in (caller, callee):
                end.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    end.recv(1)
            namespace.connect(port_of(other)).close()
            assert namespace.do(lost)[HERE, port_of(listener)] >= 2

            assert namespace.do(lambda: lose([])) == {}
            for end in (caller, callee):
                end.settimeout(10)
            assert (callee.recv(10), caller.recv(10)) == (b"asked", b"told")
            namespace.connect(port_of(listener)).close()


def test_what_is_lost_is_replaced_as_a_whole(namespace: Namespace) -> None:
    one, two, three = ("10.1.2.3", 80), ("10.1.2.3", 8080), ("10.1.2.4", 80)

    assert namespace.do(lost) == {}
    assert set(namespace.do(lambda: lose([one, two, one]))) == {one, two}
    assert set(namespace.do(lambda: lose([three]))) == {three}
    assert set(namespace.do(lost)) == {three}
    assert namespace.do(lambda: lose([])) == {}


def test_a_thousand_places_are_lost_and_listed(namespace: Namespace) -> None:
    places: list[Place] = [(f"10.1.{number // 250}.{number % 250}", 1 + number) for number in range(1000)]

    began = time.monotonic()
    assert set(namespace.do(lambda: lose(places))) == set(places)
    assert time.monotonic() - began < 5


def test_this_process_stays_where_it_is(namespace: Namespace) -> None:
    with socket.create_server((HERE, 0)) as listener:
        namespace.do(lambda: lose([(HERE, port_of(listener))]))

        socket.create_connection((HERE, port_of(listener)), 5).close()


def test_a_namespace_that_is_gone_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        in_namespace(f"/proc/{gone.pid}/ns/net", lost)


def test_it_can_be_run_from_beside_with_nothing_but_its_own_text(namespace: Namespace) -> None:
    def run(*arguments: str) -> str:
        with open(packet_filter.__file__, encoding="utf-8") as file:
            program = file.read()
        enter = ["nsenter", "-t", str(namespace.pid), "-n", sys.executable, "-I", "-c", program]
        return subprocess.run([*enter, *arguments], check=True, capture_output=True, text=True).stdout

    assert run("lose", "10.1.2.3:80") == '[["10.1.2.3", 80, 0]]\n'
    assert run("lost") == '[["10.1.2.3", 80, 0]]\n'
    assert run("lose") == "[]\n"


def without_rights(deed: Callable[[], Any]) -> Any:
    """Do it as nobody, in a thread of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.syscall(SETRESUID, -1, NOBODY, -1) == 0
    try:
        return deed()
    finally:
        libc.syscall(SETRESUID, -1, 0, -1)


def test_who_has_no_right_to_it_is_told(namespace: Namespace) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(PermissionError):  # the right is a thread's own, and ends with it
        pool.submit(lambda: without_rights(lambda: namespace.do(lost))).result()
