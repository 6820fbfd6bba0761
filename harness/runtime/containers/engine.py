"""Finds the Docker engine that containers are run on, as the docker command line would, and says why there is none."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.errors import CouldNotRun, MissingPart

if TYPE_CHECKING:
    import docker

ANSWER_SECONDS = 3.0
CALL_SECONDS = 20.0
"""How long one call of the engine may take; stopping a container takes the longest."""

OLDEST_COMPOSE = (2, 23, 1)
"""The first that makes a file in a container out of what stands in the model (`configs: content:`)."""

KNOWN_REASONS = (
    "Connection refused",
    "timed out",
    "Permission denied",
    "No such file or directory",
    "Name or service not known",
)

KEPT = ("PATH", "HOME", "USER", "LANG", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "TMPDIR")
KEPT_PREFIXES = ("DOCKER_", "BUILDKIT_", "BUILDX_")


@dataclass(frozen=True)
class DockerEngine:
    """A Docker engine that answers, and the Compose beside it.

    `host` is its address as in DOCKER_HOST. `certificates` is the folder of DOCKER_CERT_PATH where TLS is verified.
    `is_here`: its containers are processes of this machine, so that their networks and they themselves are seen from here.
    `id` is its own, by whatever address it is asked, or that address where it tells none.
    """

    host: str
    version: str
    compose: str
    certificates: str = ""
    is_here: bool = False
    id: str = ""

    @cached_property
    def published_on(self) -> str:
        """The address that ports are published on and reached by: loopback here, elsewhere that of the engine's host."""
        if not self.host.startswith("tcp://"):
            return "127.0.0.1"
        name = urlsplit(self.host).hostname or ""
        try:
            return socket.gethostbyname(name)
        except OSError as error:
            raise CouldNotRun(f"DOCKER_HOST={self.host}: expected a name that resolves, found: {error}") from error

    def client(self) -> docker.DockerClient:
        """A client of its API; calls end within CALL_SECONDS."""
        return client_of(self.host, self.certificates)

    def environment(self) -> dict[str, str]:
        """What the docker command line needs to find this engine, and nothing else of the user's variables."""
        kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
        return {**kept, "DOCKER_HOST": self.host}


def client_of(host: str, certificates: str, timeout: float = CALL_SECONDS, version: str | None = "auto") -> docker.DockerClient:
    """A client of the engine at `host`, which is asked for the version of its API; with None it is not asked."""
    import docker
    from docker.tls import TLSConfig

    given: dict[str, Any] = {"timeout": timeout, "version": version}
    if certificates:
        given["tls"] = TLSConfig(
            client_cert=(f"{certificates}/cert.pem", f"{certificates}/key.pem"),
            ca_cert=f"{certificates}/ca.pem",
            verify=True,
        )
    return docker.DockerClient(base_url=host, **given)


@contextmanager
def told_of(host: str) -> Iterator[None]:
    """What the engine at `host` refuses, and that it is gone, is raised as CouldNotRun."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.RequestException) as error:
        raise CouldNotRun(f"the Docker engine at {host} does not do what it is asked to: {_root_of(error)}") from error


def find_engine(environ: Mapping[str, str]) -> DockerEngine:
    """The engine that `docker` would use, with a Compose that is new enough; raises MissingPart, saying what is not there."""
    host = _host(environ)
    if host.startswith(("ssh://", "npipe://")):
        raise MissingPart(
            f"the Docker engine at {host}: expected unix:// or tcp://, since the way in and the proxies' control API have to "
            f"be reached at the engine's host; run the harness on that host, or let the engine listen on tcp:// with TLS"
        )
    certificates = environ.get("DOCKER_CERT_PATH", "") if environ.get("DOCKER_TLS_VERIFY") else ""
    version, apart, own = _asked(host, certificates)
    here = host.startswith("unix://") and os.uname().sysname == "Linux" and not apart
    return DockerEngine(host, version, compose_version(environ), certificates, here, own)


def _host(environ: Mapping[str, str]) -> str:
    if environ.get("DOCKER_HOST"):
        return environ["DOCKER_HOST"]
    if shutil.which("docker", path=environ.get("PATH")):
        shown = _said(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], environ)
        if shown:
            return shown
    return "unix:///var/run/docker.sock"


def _asked(host: str, certificates: str) -> tuple[str, bool, str]:
    """The engine's version, whether its containers live apart from its own machine's networks and processes (in a
    virtual machine: Docker Desktop; or in namespaces of their own: rootless), and its ID.
    """
    import requests
    from docker.errors import DockerException

    try:
        knock(host)
        client = client_of(host, certificates, ANSWER_SECONDS)
        try:
            info = client.info()
            apart = "rootless" in str(info.get("SecurityOptions")) or "Docker Desktop" in str(info.get("OperatingSystem"))
            return str(info["ServerVersion"]), apart, str(info.get("ID") or host)
        finally:
            client.close()
    except (DockerException, requests.RequestException, OSError, ValueError, KeyError) as error:
        raise MissingPart(f"no Docker engine answers at {host} ({_root_of(error)})") from error


def knock(host: str) -> None:
    """Raises OSError where nothing listens on the engine's socket: docker's SDK leaves its own open then."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(host.removeprefix("unix://"))


def _root_of(error: BaseException) -> str:
    """The innermost reason, without the layers of clients around it."""
    text = str(error)
    inner = re.search(r"(PermissionError|FileNotFoundError|ConnectionRefusedError)\([^,]*, '([^']*)'", text)
    if inner:
        return inner[2].lower()
    for known in KNOWN_REASONS:
        if known.lower() in text.lower():
            return known.lower()
    return text.strip()[:200]


def compose_version(environ: Mapping[str, str]) -> str:
    """The version of `docker compose`; raises MissingPart where there is none, or one that is too old."""
    if not shutil.which("docker", path=environ.get("PATH")):
        raise MissingPart("expected the docker command line with its Compose plugin, found no docker on the PATH")
    said = _said(["docker", "compose", "version", "--short"], environ)
    if said is None:
        raise MissingPart(
            "expected the Compose plugin of docker (docker compose), found none; "
            "install docker-compose-plugin, or run scripts/install-docker-debian"
        )
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", said)
    if numbers is not None and tuple(map(int, numbers.groups())) < OLDEST_COMPOSE:
        oldest = ".".join(map(str, OLDEST_COMPOSE))
        raise MissingPart(f"expected docker compose {oldest} or newer, found {said}; install a newer docker-compose-plugin")
    return said


def _said(argv: list[str], environ: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(argv, env=dict(environ), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
