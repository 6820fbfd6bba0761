"""What Compose and the engine say where a system does not come up, told so that a person can act on it; pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from harness.errors import CouldNotRun
from harness.runtime.containers.images import PYTHON_IMAGE, TOXIPROXY_IMAGE
from harness.runtime.containers.rewrite import PROXIES

TAIL = 12
LONGEST = 400

TAKEN = re.compile(
    r"Pool overlaps|overlaps with|port is already allocated|address already in use|ports are not available", re.IGNORECASE
)
EXHAUSTED = re.compile(r"non-overlapping IPv4 address pool|predefined address pools", re.IGNORECASE)
NOT_ITS_ADDRESS = re.compile(r"cannot assign requested address", re.IGNORECASE)
NO_IMAGE = re.compile(
    r"pull access denied|manifest unknown|manifest for .* not found|failed to resolve source metadata|no such image|"
    r"failed to do request|(dial tcp|lookup) .*(no such host|refused|timeout|misbehaving)|request canceled while waiting|"
    r"Client\.Timeout|failed to authorize|unauthorized|toomanyrequests",
    re.IGNORECASE,
)
NO_BASE = re.compile(r"^ > \[(\S+) internal\] load metadata for (\S+?):?$", re.MULTILINE)
"""Before the first step of a build its base image is looked for; told again where that was what failed."""

BUILD_FAILED = re.compile(r"failed to solve|failed to build|returned a non-zero code|failed to read dockerfile", re.IGNORECASE)


class Taken(CouldNotRun):
    """An address block or a port was free when it was looked for, and was not any more when it was needed."""


def of_the_engine(said: str, host: str, published_on: str) -> CouldNotRun | None:
    """What the engine at `host` had no room for; None where it complained of nothing of the kind."""
    tail = _tail(said)
    if TAKEN.search(said):
        return Taken(f"an address or a port was taken while the system came up:{tail}")
    if NOT_ITS_ADDRESS.search(said):
        return CouldNotRun(
            f"the engine at {host} has no address {published_on} to publish the way in on: its host is "
            f"reached by an address that is not its own; let DOCKER_HOST name one that is:{tail}"
        )
    if EXHAUSTED.search(said):
        return CouldNotRun(
            f"the Docker engine has no addresses left for another network; remove networks that are not in use "
            f"(docker network prune), or give the engine larger default-address-pools:{tail}"
        )
    return None


def of_images(said: str, images: Mapping[str, str]) -> CouldNotRun | None:
    """Which image could not be built or had; None where Compose complained of none. `images` are those of the services."""
    bases = dict.fromkeys(NO_BASE.findall(said))
    if BUILD_FAILED.search(said) and not bases:
        return CouldNotRun(f"an image could not be built:{_tail(said)}")
    if not bases and not NO_IMAGE.search(said):
        return None
    pulled = [] if bases else [(name, image) for name, image in images.items() if _had_an_error(name, said)]
    missing = [f"{base}, the base of {name}" for name, base in bases] + [f"{image} of {name}" for name, image in pulled]
    return CouldNotRun(
        f"an image could not be had{': ' if missing else ''}{', '.join(missing)}; where no registry is in reach, "
        f"scripts/offline-images builds stand-ins for the sample system, which scripts/with-offline-images applies"
        f"{_other_proxies(bases, pulled)}; or run it with --runtime local:\n    {_last_reason(said)}"
    )


def _other_proxies(bases: Iterable[tuple[str, str]], pulled: Iterable[tuple[str, str]]) -> str:
    """The variable that names another image, where it is that of the proxies that is missing."""
    if any(name == PROXIES for name, _ in bases):
        return f", and {PYTHON_IMAGE} names another base of the proxies"
    if any(name == PROXIES for name, _ in pulled):
        return f", and {TOXIPROXY_IMAGE} names another image of the proxies"
    return ""


def _last_reason(said: str) -> str:
    """The last line that tells why an image could not be had; else the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if NO_IMAGE.search(line)] or lines or ["docker compose said nothing"]
    return _shortened(told[-1])


def with_log(error: CouldNotRun, log: str) -> CouldNotRun:
    """The same, and where the rest of what was said is."""
    return type(error)(f"{error}\n    all that docker compose said is in {log}")


def of_a_build(said: str) -> CouldNotRun:
    """Why images could not be built."""
    return of_images(said, {}) or CouldNotRun(f"an image could not be built:{_tail(said)}")


def of_nothing_known(said: str) -> CouldNotRun:
    """Compose's own last words."""
    return CouldNotRun(f"docker compose up failed:{_tail(said)}")


def _had_an_error(service: str, said: str) -> bool:
    return re.search(rf"^ *{re.escape(service)} +Error\b", said, re.MULTILINE) is not None


def _tail(said: str) -> str:
    return "".join(f"\n    {_shortened(line)}" for line in said.splitlines()[-TAIL:] if line.strip())


def _shortened(line: str) -> str:
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
