"""What holds for the port `Services` once a system stands, however it is run: faults on services, and that they are undone.

A subclass gives the fixture `bring`, which brings up services of `tiny_service.py` and tells how to ask them:

    class TestContainersUnderFaults(ContainerFaultsContract):
        @pytest.fixture
        def bring(self) -> Iterator[Callable[..., Scene]]:
            def prepare(**policies: str) -> Scene:  # restart policies by service; "" for none
                ...
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from harness.errors import ServiceFaultFailed
from harness.history.events import Event, FaultBegan, FaultEnded, ServiceChanged, ServiceExited
from harness.history.history import History
from harness.judge.blows import DEEDS, blows_of
from harness.judge.case import Case
from harness.judge.service_proofs import evidence_of_services
from harness.judge.verdict import Finding
from harness.plan.plan import ServiceChange
from harness.plan.services import relieved, struck
from harness.runtime.ports import Services
from harness.runtime.sabotage import UntouchedServices
from tests.contract.recording import begin, note
from tests.histories.building import Story, fault
from tests.histories.building import plan as plan_of

COMES_UP = 20.0
"""How long a service may take to answer again."""

BROUGHT_BACK = ("kill", "stop", "restart", "crash", "pause", "crash_loop")

LIMITS = [("cpu", {"cores": 0.2}), ("memory", {"bytes": 64 * 1024**2})]


@dataclass
class Scene:
    """Services that were started. `ask` answers a GET of a path of a service, and raises OSError where none came in 1 s."""

    services: Services
    events: list[Event]
    ask: Callable[[str, str], str]

    def strike(self, deed: str, service: str = "order", **limits: Any) -> dict[str, Any]:
        return self.services.strike(change(deed, service, **limits))

    def relieve(self, deed: str, service: str = "order", **limits: Any) -> dict[str, Any]:
        return self.services.relieve(change(deed, service, **limits))

    def changes(self, service: str = "order") -> list[str]:
        """What was told of a service so far; engines tell a little later."""
        return [event.what for event in self.events if isinstance(event, ServiceChanged) and event.service == service]

    def answer(self, path: str = "/born", service: str = "order") -> str | None:
        try:
            return self.ask(service, path)
        except OSError:
            return None


def change(deed: str, service: str = "order", **limits: Any) -> ServiceChange:
    return ServiceChange.model_validate({"service": service, "deed": deed, **limits})


def is_as(asked: dict[str, Any], found: dict[str, Any]) -> bool:
    return all(found.get(key) == value for key, value in asked.items())


def nearly(state: dict[str, Any]) -> dict[str, Any]:
    """A state as far as a kernel counts it: hundredths of a processor."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in state.items()}


def wait_until(holds: Callable[[], object], seconds: float = COMES_UP) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.05)


SAID: dict[str, dict[str, Any]] = {
    "cpu": {"cores": 0.1},
    "memory": {"bytes": 48 * 1024**2},
    "crash_loop": {"lives": 0.3},
    "scale": {"to": 1},
}
"""What is said of a deed beside its name."""


def provoke(scene: Scene, deed: str) -> None:
    """Do what makes the service feel it, and wait until its runtime has told what is told while it is on."""
    if deed == "cpu":
        scene.answer("/burn")
    for _ in range(3 if deed == "memory" else 0):
        scene.answer("/hold/40")
    told = {"crash_loop": ["die", "die"], "restart": ["die", "start"], "pause": ["pause"], "disconnect": ["disconnect"]}
    nothing = [] if deed in ("cpu", "memory") else ["die"]
    wait_until(lambda: not Counter(told.get(deed, nothing)) - Counter(scene.changes()))


def proofs(services: Services, scene: Scene, deed: str) -> dict[str, Finding]:
    """What a judge makes of it, done to `services`: of what was read back and told, since no edge leads there."""
    one = change(deed, **SAID.get(deed, {}))
    scene.events.clear()
    times = [time.time()]
    found = services.strike(one)
    times.append(time.time())
    if services is scene.services:
        provoke(scene, deed)
    times.append(time.time())
    healed = services.relieve(one)
    times.append(time.time())
    story = Story(faults=(FAULTS[deed],))
    plan = {**plan_of(story).model_dump(mode="json"), "observations": []}
    began = FaultBegan(times[1], times[0], f"{deed}-1", deed, "", struck(one), found, "order")
    ended = FaultEnded(times[3], times[2], f"{deed}-1", deed, "", relieved(one), healed, "order")
    wait_until(lambda: "throttled" in scene.changes() if deed == "cpu" and services is scene.services else True)
    case = Case(History(plan, [began, *scene.events, ended], ()))
    return {finding.kind: finding for finding in evidence_of_services(case, blows_of(case))}


FAULTS = {
    deed: fault(deed, service="order", **said)
    for deed, said in {
        **{key: {} for key in DEEDS},
        "cpu": {"cores": 0.1},
        "memory": {"limit": "48MB"},
        "crash_loop": {"lives": "300ms"},
        "scale": {"to": 1},
    }.items()
}


class ServiceFaultsContract(ABC):
    """Faults that can be done to processes and to containers. `cannot` are deeds that the runtime has not, each with why."""

    runtime: ClassVar[str]
    cannot: ClassVar[dict[str, str]] = {}

    @pytest.mark.parametrize("deed", DEEDS)
    def test_what_is_done_is_proven_and_what_is_accepted_and_not_done_is_not(
        self, bring: Callable[..., Scene], request: pytest.FixtureRequest, deed: str
    ) -> None:
        self.skip_where_it_cannot(deed)
        begin(request, deed, self.runtime)
        scene = bring(order="always", **({"replicas": 2} if deed == "scale" else {}))

        untouched = proofs(UntouchedServices(scene.services), scene, deed)
        done = proofs(scene.services, scene, deed)

        assert {kind: done[kind].outcome.word for kind in ("set", "bit", "healed")} == {
            "set": "passed",
            "bit": "passed",
            "healed": "passed",
        }, done
        assert (untouched["set"].outcome.word, untouched["bit"].outcome.word) == ("passed", "inconclusive"), untouched
        note(request, deed, self.runtime, "passed")

    def skip_where_it_cannot(self, *deeds: str) -> None:
        for deed in deeds:
            if deed in self.cannot:
                pytest.skip(f"{deed}: {self.cannot[deed]}")

    @pytest.fixture
    @abstractmethod
    def bring(self) -> Iterator[Callable[..., Scene]]:
        """`bring(order="", payment="always")` brings services up, each with its restart policy."""

    def test_services_that_were_started_are_ready_and_what_they_wrote_can_be_read(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="", payment="")

        assert scene.ask("order", "/ready") == scene.ask("payment", "/ready") == ""
        assert scene.services.log_tail("order") == ("tiny service: serves",)
        assert scene.services.log_tail("order", lines=0) == ()
        assert scene.services.exited() == ()

    @pytest.mark.parametrize("deed", ["kill", "stop"])
    def test_a_service_that_was_taken_down_stays_down_whatever_its_policy_until_it_is_relieved(
        self, bring: Callable[..., Scene], deed: str
    ) -> None:
        scene = bring(order="always")
        before = scene.ask("order", "/born")

        found = scene.strike(deed)

        assert is_as(struck(change(deed)), found)
        assert scene.answer() is None
        time.sleep(1.0)
        assert scene.services.exited() == ()
        assert scene.answer() is None
        wait_until(lambda: {deed, "die"} <= set(scene.changes()))

        found = scene.relieve(deed)

        assert is_as(relieved(change(deed)), found)
        wait_until(lambda: scene.answer() not in (None, before))
        wait_until(lambda: "start" in scene.changes())

    def test_a_service_that_is_paused_is_silent_and_goes_on_as_the_same_one(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="", payment="")
        before = scene.ask("order", "/born")

        found = scene.strike("pause")

        assert is_as(struck(change("pause")), found)
        assert scene.answer() is None
        assert scene.ask("payment", "/ready") == ""
        wait_until(lambda: "pause" in scene.changes())

        found = scene.relieve("pause")

        assert is_as(relieved(change("pause")), found)
        wait_until(lambda: scene.answer() == before)
        wait_until(lambda: "unpause" in scene.changes())
        assert scene.changes("payment") == []

    def test_a_service_that_was_restarted_is_another_one_at_the_same_place(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="")
        before = scene.ask("order", "/born")

        found = scene.strike("restart")

        assert is_as(struck(change("restart")), found)
        wait_until(lambda: scene.answer() not in (None, before))
        wait_until(lambda: {"die", "start"} <= set(scene.changes()))
        assert is_as(relieved(change("restart")), scene.relieve("restart"))

    def test_a_service_that_crashed_is_started_again_by_its_policy_before_anybody_heals_it(
        self, bring: Callable[..., Scene]
    ) -> None:
        scene = bring(order="always")
        before = scene.ask("order", "/born")

        found = scene.strike("crash")

        assert is_as(struck(change("crash")), found)
        wait_until(lambda: scene.answer() not in (None, before))
        wait_until(lambda: {"die", "start"} <= set(scene.changes()))
        after = scene.ask("order", "/born")
        assert is_as(relieved(change("crash")), scene.relieve("crash"))
        assert scene.ask("order", "/born") == after

    def test_a_service_that_crashed_without_a_policy_is_down_until_it_is_relieved(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="")

        found = scene.strike("crash")

        assert is_as(struck(change("crash")), found)
        assert scene.answer() is None
        assert scene.services.exited() == ()
        assert is_as(relieved(change("crash")), scene.relieve("crash"))
        wait_until(lambda: scene.answer() is not None)

    @pytest.mark.parametrize("deed", BROUGHT_BACK)
    def test_relieving_twice_is_relieving_once(self, bring: Callable[..., Scene], deed: str) -> None:
        scene = bring(order="")
        scene.strike(deed)

        scene.relieve(deed)
        wait_until(lambda: scene.answer() is not None)
        once = scene.ask("order", "/born")

        assert is_as(relieved(change(deed)), scene.relieve(deed))
        assert scene.ask("order", "/born") == once

    @pytest.mark.parametrize("deed", BROUGHT_BACK)
    def test_relieving_what_was_never_struck_changes_nothing(self, bring: Callable[..., Scene], deed: str) -> None:
        scene = bring(order="")
        before = scene.ask("order", "/born")

        assert is_as(relieved(change(deed)), scene.relieve(deed))

        assert scene.ask("order", "/born") == before

    def test_a_service_that_leaves_by_itself_is_told_once_and_comes_back_where_its_policy_says_so(
        self, bring: Callable[..., Scene]
    ) -> None:
        scene = bring(order="on-failure", payment="")
        before = scene.ask("order", "/born")

        scene.answer("/leave", "order")
        scene.answer("/leave", "payment")
        told: list[Event] = []
        wait_until(lambda: told.extend(scene.services.exited()) or len(told) >= 2)
        wait_until(lambda: told.extend(scene.services.exited()) or scene.answer() not in (None, before))

        exits = [event for event in told if isinstance(event, ServiceExited)]
        assert sorted(event.service for event in exits) == ["order", "payment"]
        assert all("3" in event.how and event.log[-1] == "somebody asked me to leave" for event in exits)
        assert scene.answer(service="payment") is None

    def test_a_service_that_is_not_there_cannot_be_struck(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="")

        with pytest.raises(ServiceFaultFailed, match="pause of shipping: expected"):
            scene.strike("pause", "shipping")

    def test_a_service_that_has_ended_cannot_be_struck(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="")
        scene.answer("/leave")
        wait_until(scene.services.exited)

        with pytest.raises(ServiceFaultFailed, match="pause of order: expected"):
            scene.strike("pause")

    # killed again and again

    @pytest.mark.parametrize("policy", ["", "always"])
    def test_a_service_in_a_crash_loop_dies_and_comes_back_until_it_is_relieved(
        self, bring: Callable[..., Scene], policy: str
    ) -> None:
        scene = bring(order=policy)
        before = scene.ask("order", "/born")
        seen: set[str | None] = set()

        found = scene.strike("crash_loop", lives=0.8)

        assert is_as(struck(change("crash_loop", lives=0.8)), found)
        wait_until(lambda: seen.add(scene.answer()) or (seen > {None} and scene.changes().count("die") >= 3))
        assert scene.services.exited() == ()
        assert is_as(relieved(change("crash_loop")), scene.relieve("crash_loop", lives=0.8))
        wait_until(lambda: scene.answer() is not None)
        last = scene.ask("order", "/born")
        time.sleep(1.0)
        assert scene.ask("order", "/born") == last
        assert scene.services.exited() == ()
        assert before not in seen
        told = [what for what in scene.changes() if what in ("die", "start")]
        assert told[:5] == ["die", "start", "die", "start", "die"]
        assert is_as(relieved(change("crash_loop")), scene.relieve("crash_loop", lives=0.8))
        assert scene.ask("order", "/born") == last

    @pytest.mark.parametrize("after", [0.0, 0.15, 0.4])
    def test_a_crash_loop_that_is_relieved_at_any_moment_leaves_the_service_running(
        self, bring: Callable[..., Scene], after: float
    ) -> None:
        scene = bring(order="")

        scene.strike("crash_loop", lives=0.2)
        time.sleep(after)
        found = scene.relieve("crash_loop", lives=0.2)

        assert is_as(relieved(change("crash_loop")), found)
        wait_until(lambda: scene.answer() is not None)
        last = scene.ask("order", "/born")
        time.sleep(0.6)
        assert scene.ask("order", "/born") == last
        assert scene.services.exited() == ()

    def test_a_crash_loop_can_come_again(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="")

        for _ in range(2):
            scene.strike("crash_loop", lives=0.2)
            wait_until(lambda: scene.changes().count("start") >= 2)
            assert is_as(relieved(change("crash_loop")), scene.relieve("crash_loop", lives=0.2))
            wait_until(lambda: scene.answer() is not None)
            scene.events.clear()

    # limits

    @pytest.mark.parametrize(("deed", "limits"), LIMITS)
    def test_a_limit_is_read_back_and_lifted_again(
        self, bring: Callable[..., Scene], deed: str, limits: dict[str, Any]
    ) -> None:
        self.skip_where_it_cannot(deed)
        scene = bring(order="")
        before = scene.ask("order", "/born")

        found = scene.strike(deed, **limits)

        assert is_as(struck(change(deed, **limits)), found)
        assert scene.answer() == before
        assert is_as(relieved(change(deed, **limits)), scene.relieve(deed, **limits))
        assert is_as(relieved(change(deed, **limits)), scene.relieve(deed, **limits))
        assert scene.ask("order", "/born") == before

    @pytest.mark.parametrize(
        ("deed", "steps"),
        [
            ("cpu", [{"cores": 0.8}, {"cores": 0.4333333333}, {"cores": 0.9}]),
            ("memory", [{"bytes": 200_000_001}, {"bytes": 128 * 1024**2}, {"bytes": 256 * 1024**2}]),
        ],
    )
    def test_a_limit_can_be_varied_while_it_is_on_and_is_lifted_to_what_was_before_the_first(
        self, bring: Callable[..., Scene], deed: str, steps: list[dict[str, Any]]
    ) -> None:
        self.skip_where_it_cannot(deed)
        scene = bring(order="")

        found = [scene.strike(deed, **limits) for limits in steps]

        assert [nearly(state) for state in found] == [
            nearly({**state, **limits}) for state, limits in zip(found, steps, strict=True)
        ]
        assert is_as(relieved(change(deed, **steps[-1])), scene.relieve(deed, **steps[-1]))

    def test_two_limits_on_one_service_are_lifted_one_by_one(self, bring: Callable[..., Scene]) -> None:
        self.skip_where_it_cannot("cpu", "memory")
        scene = bring(order="")
        for deed, limits in LIMITS:
            assert is_as(struck(change(deed, **limits)), scene.strike(deed, **limits))

        for deed, limits in LIMITS:
            assert is_as(relieved(change(deed, **limits)), scene.relieve(deed, **limits))

    def test_a_service_that_wants_more_of_a_processor_than_it_may_have_is_told_as_throttled(
        self, bring: Callable[..., Scene]
    ) -> None:
        self.skip_where_it_cannot("cpu")
        scene = bring(order="")

        scene.strike("cpu", cores=0.2)
        for _ in range(2):
            scene.answer("/burn")
        scene.relieve("cpu", cores=0.2)

        wait_until(lambda: "throttled" in scene.changes())

    def test_a_service_that_wants_more_memory_than_it_may_have_is_told_of_and_comes_back(
        self, bring: Callable[..., Scene]
    ) -> None:
        self.skip_where_it_cannot("memory")
        scene = bring(order="always")

        scene.strike("memory", bytes=48 * 1024**2)
        for _ in range(3):
            scene.answer("/hold/40")
        assert [event for event in scene.services.exited() if isinstance(event, ServiceExited)] == []
        assert is_as(relieved(change("memory")), scene.relieve("memory", bytes=48 * 1024**2))

        wait_until(lambda: {"pressed", "oom"} & set(scene.changes()))
        wait_until(lambda: scene.answer("/hold/60") is not None)

    def test_a_limit_above_all_there_is_does_nothing_and_is_refused(self, bring: Callable[..., Scene]) -> None:
        self.skip_where_it_cannot("cpu", "memory")
        scene = bring(order="")

        for deed, limits in (("cpu", {"cores": 4096.0}), ("memory", {"bytes": 2**50})):
            with pytest.raises(ServiceFaultFailed, match=f"{deed} of order: expected a limit below the"):
                scene.strike(deed, **limits)


class ContainerFaultsContract(ServiceFaultsContract):
    """Those, and what only containers can have."""

    def test_a_service_that_is_scaled_down_goes_on_with_its_first_replicas_until_it_is_relieved(
        self, bring: Callable[..., Scene]
    ) -> None:
        scene = bring(order="always", replicas=3)

        found = scene.strike("scale", to=1)

        assert is_as(struck(change("scale", to=1)), found)
        assert found["of"] == 3
        assert scene.answer() is not None
        assert scene.services.exited() == ()
        wait_until(lambda: scene.changes().count("die") == 2)
        died = {event.instance for event in scene.events if isinstance(event, ServiceChanged) and event.what == "die"}
        assert {name.rpartition("-")[2] for name in died} == {"2", "3"}

        assert is_as(relieved(change("scale", to=1)), scene.relieve("scale", to=1))
        wait_until(lambda: scene.changes().count("start") == 2)
        assert is_as(relieved(change("scale", to=1)), scene.relieve("scale", to=1))
        assert scene.services.exited() == ()

    def test_each_replica_of_a_service_has_a_crash_loop_of_its_own(self, bring: Callable[..., Scene]) -> None:
        scene = bring(order="", replicas=2)

        assert is_as(struck(change("crash_loop")), scene.strike("crash_loop", lives=0.3))
        wait_until(lambda: scene.changes().count("die") >= 6)

        assert is_as(relieved(change("crash_loop")), scene.relieve("crash_loop", lives=0.3))
        died = [event.instance for event in scene.events if isinstance(event, ServiceChanged) and event.what == "die"]
        assert min(died.count(name) for name in set(died)) >= 2
        assert len(set(died)) == 2

    @pytest.mark.parametrize("to", [1, 2])
    def test_scaling_a_service_to_what_it_has_or_more_is_refused(self, bring: Callable[..., Scene], to: int) -> None:
        scene = bring(order="")

        with pytest.raises(
            ServiceFaultFailed, match=rf"scale of order: expected fewer than the 1 of it that run, found to: {to}"
        ):
            scene.strike("scale", to=to)

        assert is_as(relieved(change("scale", to=to)), scene.relieve("scale", to=to))
        assert scene.changes() == []

    def test_a_service_off_its_networks_is_not_answered_and_comes_back_under_its_names(
        self, bring: Callable[..., Scene]
    ) -> None:
        scene = bring(order="")
        before = scene.ask("order", "/born")

        found = scene.strike("disconnect")

        assert is_as(struck(change("disconnect")), found)
        assert scene.answer() is None
        wait_until(lambda: "disconnect" in scene.changes())
        assert is_as(relieved(change("disconnect")), scene.relieve("disconnect"))
        wait_until(lambda: scene.answer() == before)
        assert is_as(relieved(change("disconnect")), scene.relieve("disconnect"))
