"""The load asks for the way in and for what was allowed by name, whatever its locustfile does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidFile
from harness.history.history import History
from harness.judge.judge import judge
from harness.model.resolving import resolve
from harness.plan.planning import plan_of
from harness.plan.text import plan_text
from harness.runtime.load.outcomes import error_text, outcome_of
from harness.runtime.load.targets import KeptBack, Targets
from tests.histories.building import Story, tell
from tests.systems import SCENARIO, write_system

PROJECT = Path(__file__).parent.parent.parent
FOUND = {"auth.example.org": {"192.0.2.7"}, "front": {"10.1.1.1"}}


def asks(targets: Targets, event: str, *told: object) -> bool:
    """Whether it may go on."""
    try:
        targets.hear(event, told)
    except KeptBack:
        return False
    return True


def targets(entry: str = "http://127.0.0.1:8000", *allowed: str) -> Targets:
    return Targets(entry, allowed, lambda name: FOUND.get(name, set()))


ASKED = [
    ("http://127.0.0.1:8000", (), "127.0.0.1", True),
    ("http://127.0.0.1:8000", (), "127.0.0.2", False),
    ("http://127.0.0.1:8000", (), "192.0.2.7", False),
    ("http://127.0.0.1:8000", (), "::1", True),
    ("http://127.0.0.9:8000", (), "127.0.0.1", False),
    ("http://127.0.0.9:8000", (), "::1", False),
    ("http://127.0.0.1:8000", (), "::ffff:127.0.0.1", True),
    ("http://[::1]:8000", (), "::1", True),
    ("http://front:8000", (), "10.1.1.1", True),
    ("http://front:8000", (), "10.1.1.2", False),
    ("http://127.0.0.1:8000", ("auth.example.org",), "192.0.2.7", True),
    ("http://127.0.0.1:8000", ("auth.example.org",), "192.0.2.8", False),
    ("http://127.0.0.1:8000", ("192.0.2.8",), "192.0.2.8", True),
    ("http://127.0.0.1:8000", ("AUTH.example.org",), "192.0.2.7", True),
    ("http://127.0.0.1:8000", (), "localhost", True),
    ("http://localhost:8000", (), "localhost", True),
    ("http://localhost:8000", (), "::1", True),
    ("http://127.0.0.9:8000", (), "localhost", False),
    ("http://127.0.0.1:8000", (), bytearray(b"192.0.2.7"), False),
    ("http://127.0.0.1:8000", (), bytearray(b"127.0.0.1"), True),
]


@pytest.mark.parametrize(("entry", "allowed", "address", "may"), ASKED)
def test_a_connection_is_made_to_what_is_allowed_alone(
    entry: str, allowed: tuple[str, ...], address: object, may: bool
) -> None:
    assert asks(targets(entry, *allowed), "socket.connect", None, (address, 80)) == may
    assert asks(targets(entry, *allowed), "socket.sendto", None, (address, 80, 0, 0)) == may


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("auth.example.org", True),
        ("Auth.Example.ORG.", True),
        (b"auth.example.org", True),
        ("example.org", False),
        ("xauth.example.org", False),
        ("127.0.0.9", True),
        ("localhost", True),
        (None, True),
        ("", True),
    ],
)
def test_a_name_is_looked_up_only_where_it_is_allowed(name: object, may: bool) -> None:
    assert asks(targets("http://127.0.0.1:1", "auth.example.org"), "socket.getaddrinfo", name, 80, 0, 0, 0) == may
    assert asks(targets("http://127.0.0.1:1", "auth.example.org"), "socket.gethostbyname", name) == may


@pytest.mark.parametrize("told", ["/run/some.sock", b"\0abstract", (), (7,), None, 5])
def test_what_leads_to_no_host_is_nobody_elses_business(told: object) -> None:
    assert asks(targets(), "socket.connect", None, told)
    assert asks(targets(), "socket.bind", None, ("192.0.2.7", 80))


def test_what_was_asked_for_in_vain_is_known() -> None:
    asked = targets()

    asks(asked, "socket.getaddrinfo", "Example.org", 80, 0, 0, 0)
    asks(asked, "socket.connect", None, ("192.0.2.7", 80))
    asks(asked, "socket.connect", None, ("127.0.0.1", 80))

    assert asked.kept_back == {"example.org", "192.0.2.7"}


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60)), st.booleans())
def test_no_host_whatsoever_makes_it_raise_anything_else(host: str | bytes, connects: bool) -> None:
    told = (None, (host, 80)) if connects else (host, 80, 0, 0, 0)

    assert asks(targets(), "socket.connect" if connects else "socket.getaddrinfo", *told) in (True, False)


def test_an_address_is_looked_up_backwards_only_where_it_is_allowed() -> None:
    asked = targets("http://127.0.0.1:1", "auth.example.org")

    assert asks(asked, "socket.gethostbyaddr", "192.0.2.7")
    assert not asks(asked, "socket.gethostbyaddr", "192.0.2.8")
    assert not asks(asked, "socket.gethostbyaddr", "example.org")


def test_a_name_that_has_another_address_by_now_is_looked_up_at_once_and_what_was_kept_back_only_now_and_then() -> None:
    addresses, asked = {"192.0.2.1"}, []

    def look_up(name: str) -> set[str]:
        asked.append(name)
        return set(addresses)

    found = Targets("http://127.0.0.1:1", ("cdn.example",), look_up)
    assert asks(found, "socket.connect", None, ("192.0.2.1", 80))
    addresses.add("192.0.2.2")
    assert asks(found, "socket.connect", None, ("192.0.2.2", 80))
    assert asked == ["cdn.example"] * 2

    for _ in range(5):
        assert asks(found, "socket.connect", None, ("192.0.2.1", 80))
        assert not asks(found, "socket.connect", None, ("192.0.2.9", 80))
    assert asked == ["cdn.example"] * 3


SLOWLY = """
import gevent.monkey
from harness.runtime.load import agent
from harness.runtime.load.targets import KeptBack, Targets
sleep = gevent.monkey.get_original("time", "sleep")
agent.looked_up = lambda name: sleep(0.5) or {"192.0.2.7"}
targets = Targets("http://127.0.0.1:1", ("cdn.example",), agent.looked_up_aside)
user = agent.gevent.spawn(targets.hear, "socket.connect", (None, ("192.0.2.7", 80)))
turns = 0
while not user.dead:
    agent.gevent.sleep(0.01)
    turns += 1
user.get()
print(turns)
"""


def test_while_nobody_answers_for_a_name_the_users_have_their_turns() -> None:
    done = subprocess.run([sys.executable, "-c", SLOWLY], capture_output=True, text=True, cwd=PROJECT, timeout=30, check=True)

    assert int(done.stdout) > 5


IN_A_PROCESS = """
import socket
from harness.runtime.load.targets import KeptBack, Targets
Targets("http://127.0.0.1:1", ()).guard()
for address in (("127.0.0.2", 1), ("localhost.example", 1), ("127.0.0.1", 1)):
    try:
        socket.create_connection(address, timeout=2)
    except OSError as error:
        print(type(error).__name__)
"""


def test_nothing_waits_for_a_name_before_the_load_begins() -> None:
    guarded = "from harness.runtime.load.targets import Targets\nTargets('http://front:1', ('cdn.example',), print).guard()"
    done = subprocess.run([sys.executable, "-c", guarded], capture_output=True, text=True, cwd=PROJECT, timeout=30, check=True)

    assert done.stdout == ""


def test_python_itself_tells_of_every_connection() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS], capture_output=True, text=True, cwd=PROJECT, timeout=30, check=True
    )

    assert done.stdout.split() == ["KeptBack", "KeptBack", "ConnectionRefusedError"]


def test_a_request_that_was_kept_back_says_so_however_it_is_wrapped() -> None:
    wrapped = ConnectionError("HTTPConnectionPool(...): Max retries exceeded " + "x" * 300)
    wrapped.__cause__ = KeptBack("example.org is not the way in")

    assert error_text(wrapped) == "KeptBack: example.org is not the way in"
    assert outcome_of(wrapped, wrapped, 0) == "other"


# what may be written, and what is told


def resolved(folder: Path, load: str):
    return resolve(write_system(folder, scenario=f"{SCENARIO}load: {load}\n"), environ={})


def test_hosts_that_are_allowed_are_in_the_plan(tmp_path: Path) -> None:
    found = resolved(tmp_path, "{allow_hosts: [auth.example.org, 10.0.0.5, '::1']}")
    plan = plan_of(found.experiment, found.queries)

    assert plan.load.allow_hosts == ("auth.example.org", "10.0.0.5", "::1")
    assert "which may also ask auth.example.org, 10.0.0.5, ::1" in plan_text(plan)


@pytest.mark.parametrize("host", ["http://auth.example.org", "auth.example.org:443", "a b", "*", "", "auth.example.org/x"])
def test_what_is_no_host_is_refused_by_its_line(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidFile) as refused:
        resolved(tmp_path, f"{{allow_hosts: ['{host}']}}")

    (problem,) = refused.value.problems
    assert problem.line == 10
    assert problem.message.startswith("expected a host such as auth.example.org or 10.0.0.5")


def test_the_verdict_tells_which_hosts_were_asked_for_in_vain() -> None:
    told = tell(replace(Story(), damage=()))
    notes = [*told.notes, {"load": "kept back", "host": "example.org"}, {"load": "kept back", "host": "example.org"}]

    warnings = judge(History(told.plan, told.events, told.requests, notes)).warnings

    assert (
        warnings.count(
            "the load asked for example.org, which is not the way into the system: nothing was sent there; "
            "load: {allow_hosts: ['example.org']} allows it"
        )
        == 1
    )
