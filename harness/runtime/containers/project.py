"""The containers of one run, as the engine tells of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.model.secrets import last_lines
from harness.runtime.containers.removal import PROJECT_LABEL, SERVICE_LABEL
from harness.runtime.services.waiting import how_it_ended

_LAST_SIGNAL = 64
_LINES_WITH_A_KEY = 200
"""So many lines show the begin or the end of a private key that stands in the last ones: with neither it looks like none."""

_EXITED = re.compile(r"Exited \((\d+)\)")


@dataclass(frozen=True, slots=True)
class Seen:
    """One container at one look. `exit_code` is None while it runs, `health` empty where it has no health check."""

    id: str
    name: str
    service: str
    state: str
    health: str
    exit_code: int | None

    @property
    def why_not_ready(self) -> str | None:
        """Why it is not what it should be yet; None where it runs, is healthy where it says so, or is done."""
        if self.state == "exited":
            return None if self.exit_code == 0 else f"it ended: {how_ended(self.exit_code)}"
        if self.state != "running":
            return f"it is {self.state}"
        return f"its health check says {self.health}" if self.health not in ("", "healthy") else None

    @property
    def has_failed(self) -> bool:
        """Whether waiting longer would not help."""
        return (self.state in ("exited", "dead") and self.exit_code != 0) or self.health == "unhealthy"


def how_ended(code: int | None) -> str:
    """What a container ended with, in the words for processes: of a signal an engine tells as of 128 and its number."""
    if code is None:
        return "it ended"
    return how_it_ended(128 - code if 128 < code <= 128 + _LAST_SIGNAL else code)


class Project:
    """The containers of one run."""

    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name

    def look(self) -> list[Seen]:
        """All its containers, in one call."""
        found = self.client.api.containers(all=True, filters={"label": f"{PROJECT_LABEL}={self.name}"})
        return sorted((_seen(one) for one in found), key=lambda seen: (seen.service, seen.name))

    def containers(self, service: str) -> Sequence[Any]:
        """The containers of one service, as the SDK's objects, the running ones and the others."""
        labels = [f"{PROJECT_LABEL}={self.name}", f"{SERVICE_LABEL}={service}"]
        found: Sequence[Any] = self.client.containers.list(all=True, filters={"label": labels})
        return found

    def log_tail(self, container: str, lines: int = 20) -> tuple[str, ...]:
        """The last lines that a container wrote."""
        said: bytes = self.client.api.logs(container, tail=max(lines, _LINES_WITH_A_KEY))
        return last_lines(said.decode("utf-8", "replace"), lines)


def _seen(one: dict[str, Any]) -> Seen:
    status = str(one.get("Status", ""))
    ended = _EXITED.match(status)
    health = next((word for word in ("unhealthy", "healthy", "starting") if word in status), "")
    return Seen(
        id=one["Id"],
        name=str(one["Names"][0]).lstrip("/") if one.get("Names") else one["Id"][:12],
        service=one["Labels"].get(SERVICE_LABEL, ""),
        state=one["State"],
        health=health,
        exit_code=int(ended[1]) if ended else None,
    )
