"""What two runs would both write to is known before either begins; what each has for itself is not among it."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.model.compose import Compose, ComposeService
from harness.model.compose_config import compose_from_config
from harness.model.system import LocalService
from harness.runtime.containers import engine
from harness.runtime.containers.engine import DockerEngine
from harness.runtime.shares import shared_at, shared_here

HERE = DockerEngine("unix:///docker.sock", "20.10.24", "2.32.4", is_here=True, id="here")
AWAY = DockerEngine("tcp://builder:2376", "20.10.24", "2.32.4", id="away")


def config(*mounts: dict[str, Any], volumes: dict[str, Any] | None = None) -> Compose:
    """What Compose makes of a service with these mounts."""
    return compose_from_config({"services": {"a": {"image": "a", "volumes": list(mounts)}}, "volumes": volumes or {}})


def bind(source: object, **more: object) -> dict[str, Any]:
    return {"type": "bind", "source": str(source), "target": "/x", **more}


def test_a_system_with_volumes_of_its_own_shares_nothing() -> None:
    own = {"type": "volume", "source": "data", "target": "/data"}
    system = config(own, {"type": "tmpfs", "target": "/t"}, volumes={"data": {"name": "chaos-reading_data"}})

    assert shared_at(HERE, system) == ()


def test_an_external_volume_is_shared_by_the_name_that_it_has_at_the_engine() -> None:
    system = config(volumes={"data": {"name": "shop_data", "external": True}, "logs": {"external": True}})

    assert shared_at(HERE, system) == (
        "the volume shop_data at the Docker engine here",
        "the volume logs at the Docker engine here",
    )


def test_a_folder_of_the_host_is_shared_where_it_may_be_written_to(tmp_path: Path) -> None:
    system = config(bind(tmp_path), bind("/etc", read_only=True), bind(tmp_path), bind("/not/there/yet"))

    assert shared_at(HERE, system) == (f"{tmp_path} at the Docker engine here", "/not/there/yet at the Docker engine here")


def test_a_volume_that_is_a_folder_of_the_host_is_shared() -> None:
    volumes = {"data": {"name": "x_data", "driver_opts": {"type": "none", "o": "bind", "device": "/srv/data"}}}

    assert shared_at(HERE, config(volumes=volumes)) == ("/srv/data at the Docker engine here",)


def test_a_socket_or_a_device_holds_nothing_itself(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        system = config(bind(path), bind("/dev/null"))

        assert shared_at(HERE, system) == ()
        assert shared_at(AWAY, system) == (f"{path} at the Docker engine away", "/dev/null at the Docker engine away")


def test_two_engines_are_two_places() -> None:
    system = config(volumes={"data": {"external": True}})

    assert not set(shared_at(HERE, system)) & set(shared_at(AWAY, system))


def test_one_engine_by_two_addresses_is_one_place() -> None:
    system = config(volumes={"data": {"external": True}})

    assert shared_at(HERE, system) == shared_at(replace(HERE, host="tcp://builder:2376"), system)


class Client:
    """Of an engine that answers with this."""

    def __init__(self, **said: str) -> None:
        self._said = said

    def info(self) -> dict[str, str]:
        return {"ServerVersion": "27", **self._said}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("said", "known_as"), [({"ID": "8f2e"}, "8f2e"), ({"ID": ""}, AWAY.host), ({}, AWAY.host)])
def test_an_engine_is_known_by_its_own_id_and_where_it_tells_none_by_its_address(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], known_as: str
) -> None:
    monkeypatch.setattr(engine, "client_of", lambda *_: Client(**said))
    monkeypatch.setattr(engine, "compose_version", lambda _environ: "2.32.4")

    assert engine.find_engine({"DOCKER_HOST": AWAY.host}).id == known_as


FOLDER = Path("/shop")


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ("sqlite:///orders.db", ["/shop/orders.db"]),
        ("sqlite:////var/lib/orders.db", ["/var/lib/orders.db"]),
        ("sqlite+aiosqlite:///./data/../orders.db?cache=shared", ["/shop/orders.db"]),
        ("sqlite3:///orders.db", ["/shop/orders.db"]),
        ("sqlite:///orders.db?mode=ro", []),
        ("sqlite:///:memory:", []),
        ("sqlite://", []),
        ("postgresql://me@postgres:5432/orders", []),
        ("http://stock:8000", []),
        ("", []),
    ],
)
def test_on_processes_a_database_that_is_a_file_is_shared(value: str, files: list[str]) -> None:
    variables = Compose({"a": ComposeService("a", environment={"DATABASE_URL": value})})
    plain = Compose({"a": ComposeService("a")})
    command = {"a": LocalService(command="{python} a.py {host} {port} --db " + (value or "none"))}

    assert list(shared_here(variables, {}, {}, FOLDER)) == files
    assert list(shared_here(plain, command, {}, FOLDER)) == files
    assert list(shared_here(plain, {}, {"a": {"DATABASE_URL": value}}, FOLDER)) == files


def test_a_variable_that_is_laid_over_counts_in_place_of_the_one_under_it() -> None:
    compose = Compose({"a": ComposeService("a", environment={"DB": "sqlite:///orders.db"})})

    assert shared_here(compose, {}, {"a": {"DB": "sqlite:///:memory:"}}, FOLDER) == ()
