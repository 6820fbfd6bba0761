"""The guardian at the engine, as the harness has it: when it is spoken to, and what its end means for the run."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from harness.errors import CouldNotRun
from harness.history.events import EngineGuarded
from harness.runtime import stopping
from harness.runtime.containers import watch, watch_container
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.containers.watch import EngineGuardian
from harness.runtime.containers.watch_container import Errand, GuardianContainer, NotGuarded, Way, image_for
from harness.runtime.stopping import Stop, Stopped
from harness.runtime.undo import RemoveProject

LEASE, SHORT_LEASE = 5.0, 0.3
UNDO = RemoveProject("chaos-1", "unix:///engine.sock", "")


class FakeContainer:
    """A guardian's container: answers what is said, until it is `silent` or `ends`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: list[float] = []
        self.silent = False
        self.closed = False
        self.why: str | Exception = "it was removed"
        self._answers: queue.Queue[bytes] = queue.Queue()

    def say(self, what: bytes) -> None:
        self.said.append(time.monotonic())
        if not self.silent:
            self._answers.put(b"frame + " + what)

    def hear(self, within: float) -> bytes | None:
        try:
            return self._answers.get(timeout=within)
        except queue.Empty:
            return None

    def end(self) -> None:
        self._answers.put(b"")

    def why_ended(self) -> str:
        if isinstance(self.why, Exception):
            raise self.why
        return self.why

    def close(self) -> None:
        self.closed = True
        self.end()


class Client:
    def close(self) -> None:
        pass


class FakeEngine(DockerEngine):
    def client(self) -> Any:
        return Client()


class Rig:
    """A guardian over an engine that makes fake containers; `refuse` says in which ways none can be had."""

    def __init__(self, lease: float) -> None:
        self.stop = Stop()
        self.stop.begin()
        self.recorded: list[EngineGuarded] = []
        self.made: list[FakeContainer] = []
        self.ways: list[Way] = []
        self.errands: list[Errand] = []
        self.refuse: Callable[[Way], str] = lambda way: ""
        self.guardian = EngineGuardian(
            UNDO,
            FakeEngine("unix:///engine.sock", "1", "2"),
            Path("/runs/1"),
            lease=lease,
            stop=self.stop,
            record=self.recorded.append,
        )

    def start_container(self, _client: Any, _image: str, name: str, errand: Errand, way: Way) -> FakeContainer:
        self.ways.append(way)
        self.errands.append(errand)
        if why := self.refuse(way):
            raise NotGuarded(why)
        self.made.append(FakeContainer(name))
        return self.made[-1]

    def begin(self) -> FakeContainer:
        self.guardian.begin()
        self.guardian.wait_until_known()
        return self.made[-1]

    def fails_within(self, seconds: float) -> str:
        with pytest.raises(CouldNotRun) as raised:
            self.stop.wait_until(time.time() + seconds)
        return str(raised.value)


@pytest.fixture
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(getattr(request, "param", LEASE))
    monkeypatch.setattr(watch, "image_for", lambda _client: "python")
    monkeypatch.setattr(watch, "start_container", rig.start_container)
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(watch, "LATE_SECONDS", 0.2)
    monkeypatch.setattr(watch, "START_SECONDS", 0.3)
    monkeypatch.setattr(watch, "ENGINE_SECONDS", 0.2)
    yield rig
    rig.guardian.let_go()
    rig.guardian.close()


def test_once_it_watches_that_is_recorded_with_how_long_it_took(rig: Rig) -> None:
    container = rig.begin()

    (guarded,) = rig.recorded
    assert container.name == "chaos-1-guardian"
    assert (guarded.image, guarded.why_not) == ("python", "")
    assert guarded.seconds >= 0


def test_as_long_as_the_run_goes_on_it_is_told_so(rig: Rig) -> None:
    container = rig.begin()

    until = time.time() + 10.0
    while len(container.said) < 5 and time.time() < until:
        rig.stop.wait_until(time.time() + 0.05)

    assert len(container.said) >= 5


@pytest.mark.parametrize("rig", [SHORT_LEASE], indirect=True)
def test_of_a_run_that_does_not_go_on_it_is_told_nothing_and_that_is_no_fault_of_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = rig.begin()
    monkeypatch.setattr(Stop, "goes_on", property(lambda _stop: False))
    time.sleep(0.2)
    before = len(container.said)

    time.sleep(SHORT_LEASE + 0.4)

    assert len(container.said) == before
    rig.stop.check()


def test_its_end_ends_the_run_with_the_reason(rig: Rig) -> None:
    container = rig.begin()

    container.end()

    assert rig.fails_within(10.0).startswith(
        "the guardian at the Docker engine (container chaos-1-guardian) is gone: it was removed; "
    )


@pytest.mark.parametrize("rig", [SHORT_LEASE], indirect=True)
def test_one_that_does_not_answer_ends_the_run(rig: Rig) -> None:
    container = rig.begin()

    container.silent = True

    assert "did not answer for 0.5 s" in rig.fails_within(10.0)


def test_it_waits_for_a_beat_at_least_as_long_as_the_harness_for_an_answer(rig: Rig) -> None:
    rig.begin()

    assert rig.errands[0].lease >= LEASE + watch.LATE_SECONDS


def test_an_engine_that_is_gone_is_first_told_by_those_who_know_more(rig: Rig) -> None:
    container = rig.begin()
    container.why = APIError("gone")

    container.end()
    rig.stop.wait_until(time.time() + 0.1)

    assert "is gone: the engine does not answer" in rig.fails_within(10.0)


def test_when_the_run_is_over_its_end_is_no_matter(rig: Rig) -> None:
    container = rig.begin()

    rig.guardian.let_go()
    container.end()
    time.sleep(0.2)
    rig.guardian.close()

    rig.stop.check()
    assert container.closed


def test_while_a_run_is_undone_it_is_still_told_that_somebody_is_there(rig: Rig) -> None:
    container = rig.begin()

    rig.guardian.let_go()
    before = len(container.said)
    time.sleep(0.3)

    assert len(container.said) > before


def test_where_files_of_this_machine_cannot_be_handed_in_it_watches_without(rig: Rig) -> None:
    rig.refuse = lambda way: "no such file" if way.events else ""

    container = rig.begin()

    assert [way.events for way in rig.ways] == ["/runs/1/events.jsonl", ""]
    assert container.name == "chaos-1-guardian-2"
    assert rig.recorded[0].why_not == ""


def test_where_it_cannot_watch_the_run_goes_on_and_the_first_reason_is_recorded(rig: Rig) -> None:
    rig.refuse = lambda way: f"refused with {way.socket} and {way.events or 'nothing'}"

    rig.guardian.begin()
    rig.guardian.wait_until_known()

    assert [event.why_not for event in rig.recorded] == ["refused with /engine.sock and /runs/1/events.jsonl"]
    assert len(rig.ways) == 4
    rig.stop.check()


def test_one_that_takes_too_long_is_done_without_and_never_made(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = threading.Event()
    monkeypatch.setattr(watch, "image_for", lambda _client: str(pulled.wait(10)))

    rig.guardian.begin()
    rig.guardian.wait_until_known()
    pulled.set()
    time.sleep(0.2)

    assert ["image" in event.why_not for event in rig.recorded] == [True]
    assert rig.made == []


def test_while_one_that_takes_too_long_is_waited_for_the_run_goes_on_for_whoever_watches_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def start_slowly(_client: Any, *_asked: Any) -> FakeContainer:
        time.sleep(1.5)  # the main thread has waited for this since START_SECONDS
        seen.append(rig.stop.goes_on)
        raise NotGuarded("it would not start")

    monkeypatch.setattr(watch, "start_container", start_slowly)
    monkeypatch.setattr(stopping, "SILENT_SECONDS", 0.3)

    rig.guardian.begin()
    rig.guardian.wait_until_known()

    assert seen[:1] == [True]


def test_a_run_that_is_interrupted_does_not_wait_for_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled = threading.Event()
    monkeypatch.setattr(watch, "image_for", lambda _client: str(pulled.wait(10)))
    rig.guardian.begin()
    rig.stop.ask("SIGINT")

    with pytest.raises(Stopped):
        rig.guardian.wait_until_known()

    rig.guardian.let_go()
    pulled.set()
    time.sleep(0.1)
    assert (rig.made, rig.recorded) == ([], [])


FRAMED = b"\1\0\0\0\0\0\0\5here\n"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((FRAMED,), "here"),
        ((FRAMED[:3], FRAMED[3:9], FRAMED[9:]), "here"),
        ((b"\2\0\0\0\0\0\0\4", b"oh, ", b"\2\0\0\0\0\0\0\2no"), "oh,"),
        ((b"\2\0\0\0\0\0\0\x09oh",), "oh"),
        ((), "it ended at once"),
    ],
)
def test_its_first_words_are_read_in_whatever_pieces_they_come(pieces: tuple[bytes, ...], expected: str) -> None:
    ours, theirs = socket.socketpair()
    client = SimpleNamespace(api=SimpleNamespace(attach_socket=lambda _name, _streams: ours))
    container = GuardianContainer(client, "guardian")
    with ours, theirs:
        for piece in pieces:
            theirs.sendall(piece)
            time.sleep(0.01)
        theirs.close()

        assert container.first_words() == expected


def test_one_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_container, "FIRST_WORDS_SECONDS", 0.1)
    ours, theirs = socket.socketpair()
    container = GuardianContainer(SimpleNamespace(api=SimpleNamespace(attach_socket=lambda *_: ours)), "guardian")
    with ours, theirs:
        assert container.first_words() == "it said nothing for 0.1 s"


class Images:
    """What an engine has, and what it may pull."""

    def __init__(self, *there: str, pulls: bool) -> None:
        self.there, self.pulls = there, pulls
        self.pulled: list[str] = []
        self.images = self

    def get(self, name: str) -> None:
        from docker.errors import ImageNotFound

        if name not in self.there:
            raise ImageNotFound("none")

    def pull(self, name: str) -> None:
        self.pulled.append(name)
        if not self.pulls:
            raise APIError("no registry is in reach")


def test_an_image_that_is_there_is_taken_and_nothing_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_IMAGE", "mine:1")
    client = Images("mine:1", pulls=False)

    assert image_for(client) == "mine:1"
    assert client.pulled == []


def test_the_embedded_engines_own_image_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.runtime.proxies.image import image_tag

    monkeypatch.setenv("PYTHON_IMAGE", "mine:1")

    assert image_for(Images(image_tag("mine:1"), pulls=False)) == image_tag("mine:1")


def test_an_image_that_is_not_there_is_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_IMAGE", raising=False)
    client = Images(pulls=True)

    assert image_for(client) == "python:3.11-slim"
    assert client.pulled == ["python:3.11-slim"]


def test_an_image_that_cannot_be_had_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_IMAGE", "mine:1")

    with pytest.raises(NotGuarded, match="expected mine:1, or another image with Python that PYTHON_IMAGE names"):
        image_for(Images(pulls=False))
