"""Limits of real processes by real control groups, where this machine allows them; and that none of them is left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.errors import ServiceFaultFailed
from harness.history.events import ServiceChanged
from harness.model.compose import ComposeService
from harness.model.system import LocalService
from harness.runtime.services.control_groups import home_of
from harness.runtime.services.limits import cannot_limit
from harness.runtime.undo import RemoveControlGroup, UndoJournal, undo_now
from tests.contract.services_contract import change, is_as, wait_until
from tests.contract.test_services import ONE, Brought, LocalRun, fetch, run, tiny

__all__ = ["run"]

pytestmark = pytest.mark.skipif(bool(cannot_limit()), reason=f"control groups: {'; '.join(cannot_limit().values())}")

MIB = 1024**2


def groups(run: LocalRun) -> set[Path]:
    """Every control group that the run ever made, by its journal."""
    lines = (run.folder / "undo.jsonl").read_text(encoding="utf-8").splitlines()
    noted = [data for data in map(json.loads, lines) if data.get("undo") == RemoveControlGroup.__name__]
    return {Path(data["path"]) for data in noted}


@pytest.fixture
def no_group_is_left(run: LocalRun) -> Iterator[None]:
    yield
    run.take_down()
    assert [group for group in groups(run) if group.exists()] == []


@pytest.fixture
def brought(run: LocalRun, no_group_is_left: None) -> Callable[..., Brought]:
    def bring(behaviour: str = "serves", *, restart: str = "", limited: tuple[str, ...] = ()) -> Brought:
        compose = {"order": ComposeService("order", ports=(8000,), restart=restart)}
        found = run.bring(compose, {"order": tiny(behaviour)}, patience=10, limited=limited)
        found.services.start()
        return found

    return bring


def own_groups(run: LocalRun) -> list[Path]:
    """The groups that the journal names and that are there, the oldest first."""
    undos = UndoJournal(run.folder / "undo.jsonl").left().values()
    named = [Path(undo.path) for undo in undos if isinstance(undo, RemoveControlGroup)]
    return [folder for folder in reversed(named) if folder.exists()]


def members(group: Path) -> set[int]:
    return {int(line) for line in (group / "cgroup.procs").read_text().split()}


def test_the_whole_family_is_in_the_group_and_taken_out_when_the_fault_is_over(
    run: LocalRun, brought: Callable[..., Brought]
) -> None:
    services = brought("parent").services
    family = {int(fetch(services, "order", "/pid")), int(fetch(services, "order", "/child"))}

    services.strike(change("cpu", cores=0.5))
    (group,) = own_groups(run)
    later = int(fetch(services, "order", "/child"))

    assert family | {later} <= members(group)
    services.relieve(change("cpu", cores=0.5))
    assert not group.exists()
    assert own_groups(run) == []
    assert fetch(services, "order", "/ready") == ""


def test_a_service_that_is_started_again_under_a_limit_is_limited_too(run: LocalRun, brought: Callable[..., Brought]) -> None:
    found = brought(restart="always")
    found.services.strike(change("cpu", cores=0.5))
    (group,) = own_groups(run)

    found.services.strike(change("restart"))
    wait_until(lambda: answer_of(found, "/pid"))

    assert int(fetch(found.services, "order", "/pid")) in members(group)
    found.services.relieve(change("cpu", cores=0.5))
    assert not group.exists()


def answer_of(found: Brought, path: str) -> str:
    with suppress(OSError):
        return fetch(found.services, "order", path)
    return ""


def test_memory_that_is_going_to_be_limited_is_counted_from_birth(run: LocalRun, brought: Callable[..., Brought]) -> None:
    found = brought(limited=("order",))
    fetch(found.services, "order", "/hold/60")
    (group,) = own_groups(run)
    held = (group / "memory.usage_in_bytes", group / "memory.current")

    assert int(next(file for file in held if file.exists()).read_text()) > 60 * MIB
    for _ in range(2):
        assert is_as({"bytes": 300 * MIB}, found.services.strike(change("memory", bytes=300 * MIB)))
        assert is_as({"limited": False}, found.services.relieve(change("memory", bytes=300 * MIB)))
    assert group.exists()


def test_a_limit_below_what_a_service_holds_is_its_end_or_is_refused(brought: Callable[..., Brought]) -> None:
    """A kernel with groups of version 2 kills for it, one of version 1 does not take it."""
    found = brought(restart="always", limited=("order",))
    fetch(found.services, "order", "/hold/120")

    if home_of("memory").version == 1:
        with pytest.raises(ServiceFaultFailed, match="it uses more, and cannot be made to give it back"):
            found.services.strike(change("memory", bytes=20 * MIB))
    else:
        found.services.strike(change("memory", bytes=20 * MIB))
        wait_until(lambda: found.services.exited() or "die" in told(found))

    assert is_as({"running": True, "limited": False}, found.services.relieve(change("memory", bytes=20 * MIB)))


def told(found: Brought) -> list[str]:
    return [event.what for event in found.events if isinstance(event, ServiceChanged)]


def test_a_service_that_a_limit_was_the_end_of_is_started_when_it_is_lifted(brought: Callable[..., Brought]) -> None:
    found = brought(limited=("order",))
    before = fetch(found.services, "order", "/born")
    found.services.strike(change("memory", bytes=40 * MIB))

    with suppress(OSError):
        fetch(found.services, "order", "/hold/90")
    wait_until(lambda: found.services.exited() or "die" in told(found))
    relieved = found.services.relieve(change("memory", bytes=40 * MIB))

    assert is_as({"running": True, "limited": False}, relieved)
    wait_until(lambda: answer_of(found, "/born") not in ("", before))
    assert "pressed" in told(found)
    assert found.services.exited() == ()


def test_what_a_harness_left_behind_is_removed_by_whoever_reads_its_journal(
    run: LocalRun, brought: Callable[..., Brought]
) -> None:
    """The groups are empty of limits and gone even where the processes in them live on."""
    services = brought().services
    services.strike(change("cpu", cores=0.2))
    services.strike(change("memory", bytes=300 * MIB))
    left = own_groups(run)
    assert left
    pid = int(fetch(services, "order", "/pid"))
    undos = UndoJournal(run.folder / "undo.jsonl").left()

    why_left = undo_now([undo for undo in undos.values() if isinstance(undo, RemoveControlGroup)])

    assert why_left == []
    assert not any(folder.exists() for folder in left)
    os.kill(pid, 0)


def test_a_crash_loop_whose_service_cannot_be_started_any_more_is_told_when_it_is_relieved(run: LocalRun) -> None:
    program = run.folder / "order"
    tiny_program = tiny("serves").command or ""
    program.write_text("#!/bin/sh\nexec " + tiny_program.replace("{python}", "python3").replace("{host} {port}", '"$@"') + "\n")
    program.chmod(0o700)
    found = run.bring(ONE, {"order": LocalService(command=f"{program} {{host}} {{port}}", ready="/ready")}, patience=10)
    found.services.start()

    assert is_as({"looping": True}, found.services.strike(change("crash_loop", lives=0.3)))
    wait_until(lambda: told(found).count("start") >= 1)
    program.rename(run.folder / "away")
    deaths = told(found).count("die")
    wait_until(lambda: told(found).count("die") > deaths)
    time.sleep(0.5)
    with pytest.raises(ServiceFaultFailed, match="crash_loop of order: order: expected a program"):
        found.services.relieve(change("crash_loop", lives=0.3))
    (run.folder / "away").rename(program)

    assert is_as({"running": True}, found.services.relieve(change("crash_loop", lives=0.3)))
