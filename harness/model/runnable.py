"""What a scenario needs of whatever it is run on: refused beforehand, never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from harness.errors import InvalidFile, Problem
from harness.model.aiming import edges_hit, sees_requests
from harness.model.compose import Compose
from harness.model.containability import uncarried
from harness.model.edges import CLIENT, Edge
from harness.model.experiment import Experiment
from harness.model.faults import FaultItem
from harness.model.kinds.edge import Partial
from harness.model.kinds.group import Isolate, Partition
from harness.model.kinds.service import Scale
from harness.model.outside import outside_hosts
from harness.model.resolving import Resolved
from harness.model.secrets import HIDDEN, without_secrets

MANY_EDGES = 100
"""From here on a Docker engine takes far longer for each further network: 22 s for 100, 117 s for 200 were measured."""

BEYOND_PROCESSES = ("scale", "disconnect")
"""What can be done to containers, and not to a process of this machine."""


def check_runs_locally(resolved: Resolved, cannot: Mapping[str, str] | None = None) -> Resolved:
    """The same; raises InvalidFile for what a run without containers would have to ignore, and for services it cannot run.

    `cannot` are kinds of fault that this machine does not allow, each with why.
    """
    compose = resolved.system.compose
    problems = [*compose.not_honoured, *(problem for service in compose.services.values() for problem in service.not_honoured)]
    for name in compose.services:
        if name not in resolved.system.file.local:
            message = f"expected how {name} runs without containers, as local: {{{name}: {{command: …}}}}; found nothing"
            problems.append(resolved.system.document.problem(("local",), message))
    problems += [*_outside(resolved), *_outside_by_defect(resolved)]
    for index, item in enumerate(resolved.experiment.faults):
        why = _beyond_processes(item, cannot or {})
        if why:
            problems.append(resolved.documents[0].problem(("faults", index, item.kind), why))
    if problems:
        raise InvalidFile(tuple(problems))
    return resolved


def _outside(resolved: Resolved) -> Iterator[Problem]:
    """Hosts outside the system that services would call, and that nobody allowed: on this machine nothing keeps them in."""
    compose = resolved.system.compose
    for name, service in compose.services.items():
        for variable, value in service.environment.items():
            if hosts := _not_allowed(resolved, name, variable, value):
                yield _problem_at(service.places.get(variable, ""), _told(name, variable, value, hosts))


def _problem_at(place: str, message: str) -> Problem:
    """A problem at a place that is written `file:line:column`, or names the file alone."""
    file, *numbers = place.rsplit(":", 2)
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        return Problem(file, int(numbers[0]), int(numbers[1]), message)
    return Problem(place, 0, 0, message)


def _outside_by_defect(resolved: Resolved) -> Iterator[Problem]:
    for name, defect in resolved.experiment.defects.items():
        for service, variables in defect.environment.items():
            for variable, value in variables.items():
                if hosts := _not_allowed(resolved, service, variable, value):
                    path = ("defects", name, "environment", service, variable)
                    yield resolved.documents[0].problem(path, _told(service, variable, value, hosts))


def _not_allowed(resolved: Resolved, service: str, variable: str, value: str) -> tuple[str, ...]:
    if service in resolved.experiment.system.egress:
        return ()
    compose = resolved.system.compose
    return outside_hosts(variable, value, (*compose.services, *compose.names_for(service)))


def _told(service: str, variable: str, value: str, hosts: tuple[str, ...]) -> str:
    shown = without_secrets(value).lower()
    found = f"{', '.join(host if host in shown else HIDDEN for host in hosts)} in {variable}"  # it may be half a password
    return (
        f"expected {service} to call services of the system alone, found {found}: egress: [{service}] in system.yaml allows it"
    )


def _beyond_processes(item: FaultItem, cannot: Mapping[str, str]) -> str:
    if item.kind in BEYOND_PROCESSES:
        return f"expected a fault that a process can have, found {item.kind}: it needs containers (--runtime docker)"
    if by_network(item):
        return f"expected {item.kind} by: proxy, found by: network: that needs containers (--runtime docker)"
    if item.kind in cannot:
        return f"expected a fault that a process can have here, found {item.kind}: {cannot[item.kind]} (or --runtime docker)"
    return ""


def by_network(item: FaultItem) -> bool:
    """Whether the fault is one of the network itself."""
    return isinstance(item.fault, Partition | Isolate) and item.fault.by == "network"


def cuts_network(item: FaultItem) -> bool:
    """Whether the fault leaves a handshake without an answer, which a Toxiproxy cannot do by itself."""
    return by_network(item) or getattr(item.fault, "mode", "") == "unreachable"


def needs_embedded(experiment: Experiment, *, may_lose_packets: bool = True) -> str:
    """Why Toxiproxy cannot do all of it; empty where it can. `may_lose_packets`: who runs it may do so on its networks."""
    found = ((item, _beyond_toxiproxy(item, may_lose_packets)) for item in experiment.faults)
    return next((f"{item.id}: {why}" for item, why in found if why), "")


def _beyond_toxiproxy(item: FaultItem, may_lose_packets: bool) -> str:
    if cuts_network(item) and not may_lose_packets:
        return "losing packets before a Toxiproxy takes root, and a Docker engine on this machine"
    if sees_requests(item):
        return f"{item.kind} strikes single requests, which Toxiproxy does not see"
    if isinstance(item.fault, Partial) and item.fault.share is not None:
        return "a share of the connections is drawn from the seed, which Toxiproxy's toxicity is not"
    return ""


def check_runs_with_toxiproxy(resolved: Resolved, *, may_lose_packets: bool = True) -> Resolved:
    """The same; raises InvalidFile for faults that Toxiproxy cannot do."""
    document = resolved.documents[0]
    found = [(index, item, _beyond_toxiproxy(item, may_lose_packets)) for index, item in enumerate(resolved.experiment.faults)]
    problems = [
        document.problem(
            ("faults", index, item.kind), f"expected a fault that Toxiproxy can do, found that {why}: use --engine embedded"
        )
        for index, item, why in found
        if why
    ]
    if problems:
        raise InvalidFile(tuple(problems))
    return resolved


def check_runs_in_containers(resolved: Resolved) -> Resolved:
    """The same with the edges that get no proxy set apart; raises InvalidFile where a fault aims at one that can have none."""
    read, experiment = resolved.system, resolved.experiment
    system = experiment.system
    struck = {edge.name for item in experiment.faults for edge in edges_hit(item, system.edges)}
    found = uncarried(struck, read.compose, system.edges)
    problems = list(found.problems)
    if system.interpose == "faulted" and read.compose.external_networks:
        told = ", ".join(read.compose.external_networks)
        message = f"expected networks of the run's own, found external ones ({told}), on which services of yours would meet it"
        problems.append(read.document.problem(("interpose",), f"{message}: use interpose: all, or take them out"))
    for index, item in enumerate(experiment.faults):
        if why := _scales_nothing(item, read.compose):
            problems.append(resolved.documents[0].problem(("faults", index, item.kind, "to"), why))
    if problems:
        raise InvalidFile(tuple(problems))
    apart = {edge.name for edge in found.edges}
    if system.interpose == "faulted":
        led = {(edge.caller, edge.callee) for edge in system.edges if edge.name in struck or edge.caller == CLIENT}
        apart |= {edge.name for edge in system.edges if (edge.caller, edge.callee) not in led}
    carried = tuple(edge for edge in system.edges if edge.name not in apart)
    unproxied = tuple(edge for edge in system.edges if edge.name in apart)
    parted = system.model_copy(update={"edges": carried, "unproxied": unproxied})
    return replace(
        resolved,
        experiment=experiment.model_copy(update={"system": parted}),
        system=replace(read, warnings=(*read.warnings, *found.warnings, *_cautions(read.compose, carried))),
    )


def _scales_nothing(item: FaultItem, compose: Compose) -> str:
    fault = item.fault
    there = compose.services[fault.service].replicas if isinstance(fault, Scale) else 0
    if not isinstance(fault, Scale) or fault.to < there:
        return ""
    return (
        f"expected fewer than the {there} of {fault.service} that the Compose file asks for (deploy.replicas), found {fault.to}"
    )


def _cautions(compose: Compose, carried: tuple[Edge, ...]) -> Iterable[str]:
    """What goes, and is better known beforehand."""
    if len(carried) > MANY_EDGES:
        yield (
            f"{len(carried)} edges need as many networks, which takes the engine minutes; "
            f"with interpose: faulted in system.yaml only those that a fault strikes are led through proxies"
        )
    for volume in compose.external_volumes:
        yield f"the volume {volume} is external: what services write there outlives the run"
