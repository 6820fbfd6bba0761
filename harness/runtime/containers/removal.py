"""Removes everything that a run brought up on a Docker engine, by its label, and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from harness.runtime.containers.engine import client_of

PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
GUARDIAN_LABEL = "chaos-harness.guardian"
"""What the guardian's container is labelled with, its value the project: it is none of the project's containers."""

PREFIX = "chaos-"
"""Every project of a run begins with this; another is never removed."""

RUN = re.compile(rf"{PREFIX}\d{{8}}-\d{{6}}-[0-9a-f]{{6}}")
"""What a project is called that nobody but a run has: somebody's own may begin the same."""

REMOVE_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.3
"""An engine may still be making what somebody asked for who is gone: nothing is left where twice nothing was found."""

ANSWERS_AGAIN_SECONDS = 15.0
"""How long an engine that does not answer is given: one that is restarted is back by then."""

AT_ONCE = 8


def project_of(run: str) -> str:
    """What the containers, networks and volumes of a run are labelled with: Compose's names are in lower case."""
    return f"{PREFIX}{run}".lower()


Removal = Callable[[], Any]
Left = Callable[[Any, str], list[list[Removal]]]


def remove_project(project: str, host: str, certificates: str) -> str | None:
    """Remove the containers, networks and volumes of a run, whatever state they are in, and when nothing is left its
    guardian; tells why something is left.

    One that is gone already is no failure.
    """
    return _remove_named(project, host, certificates, lambda client, name: left_of(client, name) or guardian_of(client, name))


def empty_project(project: str, host: str, certificates: str) -> str | None:
    """The same, but for the guardian: the run goes on."""
    return _remove_named(project, host, certificates, left_of)


def relieve_project(project: str, host: str, certificates: str) -> None:
    """Let go on whatever of a run stands still, and lift its limits of processors: before anything else is taken down.

    An engine needs ten seconds to remove a container that is paused. What cannot be relieved goes when it is removed.
    """
    import requests
    from docker.errors import DockerException

    with suppress(DockerException, requests.RequestException, OSError):
        client = client_of(host, certificates)
        try:
            _all(reliefs_of(client.api, project))
        finally:
            client.close()


def reliefs_of(api: Any, project: str) -> list[Removal]:
    """How to relieve each container of a run that stands still, or is limited."""
    found = api.containers(all=True, filters={"label": f"{PROJECT_LABEL}={project}"})
    still: list[Removal] = [partial(api.unpause, one["Id"]) for one in found if one["State"] == "paused"]
    return still + [partial(_lift_limit, api, one["Id"]) for one in found if one["State"] in ("paused", "running")]


def _lift_limit(api: Any, container: str) -> None:
    if api.inspect_container(container)["HostConfig"].get("CpuQuota", 0) > 0:
        api.update_container(container, cpu_quota=-1)


def _remove_named(project: str, host: str, certificates: str, what: Left) -> str | None:
    if not project.startswith(PREFIX):
        return f"expected a project named {PREFIX}…, found {project}; nothing else is ever removed"
    until = time.monotonic() + ANSWERS_AGAIN_SECONDS
    while True:
        why_left = _try_to_remove(project, host, certificates, what)
        if why_left is None or time.monotonic() > until:
            return why_left
        time.sleep(LOOK_AGAIN_SECONDS)


def _try_to_remove(project: str, host: str, certificates: str, what: Left) -> str | None:
    import requests
    from docker.errors import DockerException

    try:
        client = client_of(host, certificates)
    except (DockerException, requests.RequestException, OSError) as error:
        return f"the Docker engine at {host} does not answer: {error}"
    try:
        return _remove(client, project, what)
    except (DockerException, requests.RequestException, OSError) as error:
        return f"{host}: {error}"
    finally:
        client.close()


def _remove(client: Any, project: str, what: Left) -> str | None:
    until = time.monotonic() + REMOVE_SECONDS
    clear = 0
    reasons: list[str] = []
    while time.monotonic() < until:
        found = what(client, project)
        if not found:
            clear += 1
            if clear == 2:
                return None
            time.sleep(LOOK_AGAIN_SECONDS)
            continue
        clear = 0
        reasons = [reason for kind in found for reason in _all(kind)]
        if reasons:
            time.sleep(LOOK_AGAIN_SECONDS)
    return f"{project} is still there after {REMOVE_SECONDS:g} s: {'; '.join(reasons) or 'no reason is known'}"


def left_of(client: Any, project: str) -> list[list[Removal]]:
    """How to remove each thing that is there: containers first, since they hold networks and volumes."""
    label = {"label": f"{PROJECT_LABEL}={project}"}
    api = client.api
    containers = [one["Id"] for one in api.containers(all=True, filters=label)]
    networks = [one["Id"] for one in api.networks(filters=label)]
    volumes = [one["Name"] for one in (api.volumes(filters=label)["Volumes"] or [])]
    removals: list[list[Removal]] = [
        [partial(api.remove_container, name, force=True, v=True) for name in containers],
        [partial(api.remove_network, name) for name in networks],
        [partial(api.remove_volume, name, force=True) for name in volumes],
    ]
    return [kind for kind in removals if kind]


def guardian_of(client: Any, project: str) -> list[list[Removal]]:
    """How to remove the run's guardian at this engine; it goes last, so that somebody is there until nothing else is."""
    found = client.api.containers(all=True, filters={"label": f"{GUARDIAN_LABEL}={project}"})
    guardians: list[Removal] = [partial(client.api.remove_container, one["Id"], force=True, v=True) for one in found]
    return [guardians] if guardians else []


def projects_at(client: Any) -> list[str]:
    """The projects of all runs of which something is at an engine: those that go on too, and those of other machines."""
    found: set[str] = set()
    for label in (PROJECT_LABEL, GUARDIAN_LABEL):
        filters = {"label": label}
        told = [*client.api.containers(all=True, filters=filters), *client.api.networks(filters=filters)]
        told += client.api.volumes(filters=filters)["Volumes"] or []
        found |= {(one.get("Labels") or {}).get(label, "") for one in told}
    return sorted(project for project in found if RUN.fullmatch(project))


def _all(removals: Sequence[Removal]) -> list[str]:
    """Why some could not be removed this time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [reason for reason in pool.map(_why_not, removals) if reason]


def _why_not(removal: Removal) -> str:
    import requests
    from docker.errors import APIError, NotFound

    try:
        removal()
    except NotFound:
        return ""
    except (APIError, requests.RequestException) as error:
        return str(error)
    return ""
