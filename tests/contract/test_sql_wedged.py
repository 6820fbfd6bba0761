"""A real database that hangs, or is asked what it never comes to an end with: the asking is over in time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.runtime.ending import EndProcessGroup, end_process_groups, family_of, process_table
from harness.runtime.probes.sql import PATIENCE, Answer, ask
from harness.runtime.services.postgresql import Contents, Postgresql
from harness.runtime.services.spot import Spot
from tests.contract.launching import plain_launch
from tests.contract.proxies_rig import free_address

NOTICED_WITHIN = 5.0


@dataclass
class Database:
    """A running server, and how to reach a database of it."""

    url: str
    leader: EndProcessGroup

    def signal(self, number: int) -> None:
        for process in family_of(self.leader, process_table()):
            os.kill(process.pid, number)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    folder = Path(tempfile.mkdtemp(prefix="chaos-test-"))
    folder.chmod(0o711)  # a database that root starts is run by somebody else
    spot = Spot("postgres", free_address(), folder / "log", folder / "server")
    server = Postgresql(spot, Contents("postgres", "scram-sha-256", {"postgres": ""}, {"orders": ()}))

    def launch(*given: Any, end_with: int = signal.SIGTERM, **more: Any) -> subprocess.Popen[bytes]:
        return plain_launch(*given, **more)

    process = server.start(launch)
    leader = EndProcessGroup(process.pid, process_table()[process.pid].started, "postgres", server.end_with)
    try:
        until = time.monotonic() + 30
        while (why := server.why_not_ready()) is not None:
            assert time.monotonic() < until, why
            time.sleep(0.05)
        yield Database(server.database_url("orders"), leader)
    finally:
        end_process_groups((leader,))
        process.wait(5)
        shutil.rmtree(folder)


def asked(database: Database, query: str, patience: float = PATIENCE) -> tuple[Answer, float]:
    began = time.monotonic()
    answer = ask(database.url, query, patience=patience)
    return answer, time.monotonic() - began


def test_a_database_that_stands_still_is_given_up_in_time(database: Database) -> None:
    database.signal(signal.SIGSTOP)
    try:
        answer, seconds = asked(database, "SELECT 0")
    finally:
        database.signal(signal.SIGCONT)

    assert answer.value is None
    assert "it hangs" in answer.detail
    assert seconds < NOTICED_WITHIN


def test_a_query_that_never_ends_is_given_up_in_time_and_ended_in_the_database_too(database: Database) -> None:
    answer, seconds = asked(database, "SELECT count(*) FROM pg_sleep(600)")

    assert answer.value is None
    assert seconds < NOTICED_WITHIN
    time.sleep(0.5)
    assert asked(
        database, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    )[0] == Answer(0.0, None)


def test_rows_without_end_are_not_fetched(database: Database) -> None:
    answer, seconds = asked(database, "SELECT generate_series(1, 1000000000000)")

    assert answer == Answer(None, None, "expected one row of one or two columns (value, over)")
    assert seconds < NOTICED_WITHIN


def test_a_query_that_is_answered_is_answered_and_changes_nothing(database: Database) -> None:
    assert asked(database, "SELECT 3, 7")[0] == Answer(3.0, 7)
    assert "read-only transaction" in asked(database, "CREATE TABLE kept ()")[0].detail
