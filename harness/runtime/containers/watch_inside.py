"""The guardian at a Docker engine: the program of a small container that removes a run there when nobody else can.

It takes the engine's socket and Python's standard library alone, and is handed to Python as text. The harness sends a line
every second; each is answered. When no line comes, or what they come by ends, the harness may be gone, and the guardian on
its machine with it: a CI runner ends every process of a job. Those that are left go first, though. Only when nothing
becomes of the run any more, it is removed here, by its label, and this container with it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

HERE = b"here\n"
LOOK_EVERY = 0.5
CALL_SECONDS = 20.0
REMOVE_SECONDS = 120.0
"""How long is tried; what is left then is found by its label."""

CLEAR_LOOKS = 3
"""An engine may still be making what somebody asked for who is gone."""

AT_ONCE = 8
GONE = 404


@dataclass(frozen=True)
class Asked:
    """What this guardian is asked to do; seconds throughout.

    `label` is that of everything of the run, as `key=value`; `container` is this one's name, and `own` its label. The harness
    is not there when it says nothing for the `lease`, and it is nobody's turn but this one's when nothing has become of the
    run for `patience`. What is done is told in the file at `events`, as `undo` of what is known as `by`.
    """

    engine: str
    label: str
    container: str
    own: str
    lease: float
    patience: float
    events: str
    undo: str
    by: str


class Engine(HTTPConnection):
    """One call of the engine's API, by its socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        """To the socket, and to no host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(CALL_SECONDS)
        self.sock.connect(self._path)


def call(engine: str, method: str, path: str) -> tuple[int, Any]:
    """Status and answer; raises OSError where the engine does not answer as it should."""
    connection = Engine(engine)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said.strip() else None
    except (HTTPException, ValueError) as error:
        raise OSError(f"{method} {path}: expected the answer of a Docker engine, found {error!r}") from error
    finally:
        connection.close()


def listed(engine: str, path: str) -> Any:
    """What the engine lists; raises OSError where it does not."""
    status, found = call(engine, "GET", path)
    if status != 200:
        raise OSError(f"GET {path}: status {status}: {found}")
    return found


def ways_to_remove(asked: Asked) -> list[list[str]]:
    """The path by which each thing of the run is removed: containers first, since they hold networks and volumes."""
    filters = f"filters={quote(json.dumps({'label': [asked.label]}))}"
    containers = listed(asked.engine, f"/containers/json?all=1&{filters}") or []
    networks = listed(asked.engine, f"/networks?{filters}") or []
    volumes = (listed(asked.engine, f"/volumes?{filters}") or {}).get("Volumes") or []
    return [
        [f"/containers/{one['Id']}?force=1&v=1" for one in containers],
        [f"/networks/{one['Id']}" for one in networks],
        [f"/volumes/{quote(one['Name'], safe='')}?force=1" for one in volumes],
    ]


class Harness:
    """The harness, as far as it is heard on standard input."""

    def __init__(self, lease: float) -> None:
        self._lease, self._heard, self._ended = lease, time.monotonic(), False

    def listen(self, seconds: float) -> None:
        """Answer what is said within this time."""
        if self._ended:
            time.sleep(seconds)
        elif select.select([0], [], [], seconds)[0]:
            said = os.read(0, 4096)
            self._ended = not said
            if said:
                self._heard = time.monotonic()
                with suppress(OSError):
                    os.write(1, HERE * said.count(b"\n"))

    @property
    def why_gone(self) -> str:
        """Why it may be gone; empty while it is there."""
        if self._ended:
            return "the harness and the guardian on its machine were gone"
        silent = time.monotonic() - self._heard
        return f"the harness was not heard of for {self._lease:g} s" if silent > self._lease else ""


def nobody_acts(harness: Harness, look: Callable[[], Any], patience: float) -> bool:
    """Wait until nothing has become of the run for so long; False as soon as the harness is heard of again."""
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < patience:
        harness.listen(LOOK_EVERY)
        if not harness.why_gone:
            return False
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
    return True


def look_at(asked: Asked) -> tuple[int, set[str]]:
    """How much has been told of the run, and what there is of it, in no order; nothing of what cannot be seen."""
    told, there = 0, set[str]()
    with suppress(OSError):
        told = os.stat(asked.events).st_size
    with suppress(OSError):
        there = {path for kind in ways_to_remove(asked) for path in kind}
    return told, there


def remove(asked: Asked) -> tuple[int, str]:
    """Remove everything of the run; how many things went, and why some are left."""
    until, clear = time.monotonic() + REMOVE_SECONDS, 0
    gone: set[str] = set()
    why = ""
    with suppress(OSError):
        unpause(asked)
    while time.monotonic() < until:
        try:
            left = ways_to_remove(asked)
            clear = 0 if any(left) else clear + 1
            if clear == CLEAR_LOOKS:
                return len(gone), ""
            why = "; ".join(reason for kind in left for reason in remove_each(asked.engine, kind, gone))
        except OSError as error:
            why = str(error)
        time.sleep(LOOK_EVERY / 2)
    return len(gone), why or "it is made anew as it is removed"


def unpause(asked: Asked) -> None:
    """Let go on what stands still: to remove it as it is takes an engine ten seconds more."""
    filters = quote(json.dumps({"label": [asked.label], "status": ["paused"]}))
    paused = [f"/containers/{one['Id']}/unpause" for one in listed(asked.engine, f"/containers/json?filters={filters}") or []]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda path: call(asked.engine, "POST", path), paused))


def remove_each(engine: str, paths: list[str], gone: set[str]) -> list[str]:
    """Remove things of one kind at once; why some did not go. One that somebody else has removed is no failure."""

    def why_not(path: str) -> str:
        try:
            status, said = call(engine, "DELETE", path)
        except OSError as error:
            return str(error)
        if status < 300:
            gone.add(path)
        return "" if status < 300 or status == GONE else str((said or {}).get("message", status))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [reason for reason in pool.map(why_not, paths) if reason]


def tell(asked: Asked, why: str, why_left: str) -> None:
    """Write what was done, and why, into the run, where its file was handed in; in the words of its history."""
    done = {"event": "UndoDone", "at": time.time(), "undo": asked.undo, "by": asked.by}
    failed = {**done, "event": "UndoFailed", "reason": why_left}
    acted = {
        "event": "GuardianActed",
        "at": time.time(),
        "undone": int(not why_left),
        "failed": int(bool(why_left)),
        "why": why,
    }
    events = (failed if why_left else done, {**acted, "by": asked.by})
    lines = "".join(json.dumps(event) + "\n" for event in events).encode()
    with suppress(OSError), open(asked.events, "a+b", buffering=0) as file:
        file.seek(max(0, file.tell() - 1))
        is_cut_off = file.read(1) not in (b"", b"\n")  # whoever wrote last was killed meanwhile
        file.write(b"\n" * is_cut_off + lines)


def why_blind(asked: Asked) -> str:
    """Why this guardian could do nothing by the socket that it was given; empty where it is the right one."""
    try:
        status, found = call(asked.engine, "GET", f"/containers/{asked.container}/json")
    except OSError as error:
        return f"no Docker engine answers at the socket: {error}"
    key, _, value = asked.own.partition("=")
    if status == 200 and found["Config"]["Labels"].get(key) == value:
        return ""
    return "the Docker engine at the socket is another one"


def main() -> int:
    """Watch, and act at most once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    asked = Asked(**json.loads(sys.argv[1]))
    why = why_blind(asked)
    os.write(1, why.encode() if why else HERE)
    if why:
        return 1
    harness = Harness(asked.lease)
    while not (harness.why_gone and nobody_acts(harness, lambda: look_at(asked), asked.patience)):
        harness.listen(LOOK_EVERY)
    why = harness.why_gone
    removed, why_left = remove(asked)
    if removed or why_left:
        tell(asked, why, why_left)
    return int(bool(why_left))


if __name__ == "__main__":
    sys.exit(main())
