"""Packets lost in a container's network by a container beside it, which is how it is done by who may not enter networks."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from harness.runtime.containers.blackholes import FilterBeside, check
from harness.runtime.containers.engine import find_engine
from harness.runtime.containers.removal import PREFIX, PROJECT_LABEL, remove_project
from tests.contract.services_contract import wait_until
from tests.end_to_end.docker_rig import images, python_image

pytestmark = [pytest.mark.slow, pytest.mark.docker]

SERVE = "import socket, time; s = socket.create_server(('0.0.0.0', 8000)); time.sleep(300)"


@pytest.fixture
def container() -> Iterator[Any]:
    """A container that listens on its port 8000."""
    engine, project = find_engine(os.environ), f"{PREFIX}suite-{secrets.token_hex(4)}"
    client = engine.client()
    made = client.containers.run(
        python_image(), ["python3", "-c", SERVE], detach=True, init=True, labels={PROJECT_LABEL: project}
    )
    made.reload()
    yield made
    client.close()
    assert remove_project(project, engine.host, engine.certificates) is None


def answer(host: str) -> str:
    try:
        socket.create_connection((host, 8000), 1.0).close()
    except OSError as error:
        return str(error)
    return "connected"


def test_a_container_beside_another_loses_its_packets_and_leaves_nothing_of_itself(container: Any) -> None:
    host = next(iter(container.attrs["NetworkSettings"]["Networks"].values()))["IPAddress"]
    project = container.labels[PROJECT_LABEL]
    beside = FilterBeside(container.client, project, container.id, container.attrs["Image"])
    wait_until(lambda: answer(host) == "connected")
    check(beside)

    assert beside.lose([(host, 8000)]) == {(host, 8000): 0}
    assert answer(host) == "timed out"
    assert beside.lost()[host, 8000] >= 1
    assert beside.lose([]) == {}
    assert answer(host) == "connected"
    left = container.client.containers.list(all=True, filters={"label": f"{PROJECT_LABEL}={project}"})
    assert [one.id for one in left] == [container.id]


WITHOUT_PYTHON = os.environ.get("TOXIPROXY_IMAGE") or images().get("TOXIPROXY_IMAGE", "")


@pytest.mark.skipif(not WITHOUT_PYTHON, reason="no image without Python was built here")
def test_an_image_without_python_is_told(container: Any) -> None:
    beside = FilterBeside(container.client, container.labels[PROJECT_LABEL], container.id, WITHOUT_PYTHON)

    with pytest.raises(OSError, match="python3"):
        beside.lost()
