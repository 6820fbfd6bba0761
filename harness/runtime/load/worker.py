"""A load process on a machine of its own: it joins a run elsewhere, and takes its share of the load.

    python -m harness.runtime.load.worker HOST:PORT LOCUSTFILE [--host URL]

It waits for the run to begin where it is not there yet, and ends with it. `--host` is where the system's entry is reached
from here; without it, the address is the one the run itself uses, which on another machine is most often a wrong one.
CHAOS_WORKER_TOKEN, or the file that CHAOS_WORKER_TOKEN_FILE names, holds the token that the run has, too.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
import time
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import InvalidInput
from harness.runtime.load import agent, ledger
from harness.runtime.load.channel import Channel
from harness.runtime.load.remote import address_of
from harness.runtime.load.token import HOW, RUN, WORKER, proof_of, proves, worker_token

KNOCK_EVERY = 0.5
PINGS = 7


def main() -> None:
    """Join, and do what is told."""
    parser = argparse.ArgumentParser(prog="python -m harness.runtime.load.worker", description=__doc__)
    parser.add_argument("address", type=address_of, metavar="HOST:PORT", help="where the run waits for load processes")
    parser.add_argument("locustfile", type=Path, metavar="LOCUSTFILE", help="the same as the run's, on this machine")
    parser.add_argument("--host", metavar="URL", help="where the entry of the system is reached from this machine")
    parser.add_argument("--patience", type=float, default=300.0, metavar="SECONDS", help="how long to wait for the run")
    asked = parser.parse_args()
    if not asked.locustfile.is_file():
        parser.error(f"expected a locustfile, found no such file: {asked.locustfile}")
    token = _token()
    channel = agent.channel_on(_connected(asked.address, asked.patience))
    offset, within, challenge = clock_offset(channel)
    ledger.correct_clock(offset)
    settings = _settings(channel, token, challenge)
    here = {"locustfile": str(asked.locustfile.resolve()), "entry": asked.host or settings["entry"], "records": None}
    facts = {"offset": round(offset, 6), "within": round(within, 6)}
    agent.serve(channel, {**settings, **here, "clock": facts, "ends_with_parent": False})


def _settings(channel: Channel, token: bytes, challenge: str) -> dict[str, Any]:
    """What the run tells this process to do, once each has shown the other that it knows the token."""
    own = secrets.token_hex(16)
    channel.tell(joined=__version__, proof=proof_of(token, challenge, WORKER), challenge=own)
    answer = channel.heard()
    if answer is not None and "refused" in answer:
        sys.exit(f"the run did not take this process: {answer['refused']}")
    if answer is not None and not proves(token, own, answer.get("proof"), RUN):
        sys.exit(f"expected a run that knows the token, found one that does not show it, and did nothing for it; {HOW}")
    settings = channel.heard()
    if settings is None:
        sys.exit(agent.EXIT_ALONE)
    return settings


def _token() -> bytes:
    try:
        return worker_token(os.environ)
    except InvalidInput as error:
        sys.exit(str(error))


def clock_offset(channel: Channel) -> tuple[float, float, str]:
    """By how much the run's clock is ahead of this one, and how far that may be off: half of the quickest round trip.

    And the run's challenge, which comes with its answers.
    """
    tries, challenge = [], ""
    for _ in range(PINGS):
        before = ledger.now()
        channel.tell(ping=True)
        answer = channel.heard()
        if answer is None:
            sys.exit(agent.EXIT_ALONE)
        after = ledger.now()
        challenge = str(answer.get("challenge", ""))
        tries.append(((after - before) / 2, float(answer["pong"]) - (before + after) / 2))
    within, offset = min(tries)
    return offset, within, challenge


def _connected(address: tuple[str, int], patience: float) -> socket.socket:
    until = time.monotonic() + patience
    while True:
        try:
            made = socket.create_connection(address, timeout=10)
        except OSError as error:
            if time.monotonic() > until:
                sys.exit(f"expected a run that waits for load processes at {address[0]}:{address[1]}, found: {error}")
            time.sleep(KNOCK_EVERY)
        else:
            made.settimeout(None)
            return made


if __name__ == "__main__":
    main()
