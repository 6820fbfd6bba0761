"""What Compose and the engine say where a system does not come up, told so that a person can act on it; pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.errors import CouldNotRun

TAIL = 12

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
    tail, missing = _tail(said), [f"{base}, the base of {name}" for name, base in NO_BASE.findall(said)]
    if BUILD_FAILED.search(said) and not missing:
        return CouldNotRun(f"an image could not be built:{tail}")
    if not missing and not NO_IMAGE.search(said):
        return None
    missing = missing or [f"{image} of {name}" for name, image in images.items() if _had_an_error(name, said)]
    return CouldNotRun(
        f"an image could not be had{': ' if missing else ''}{', '.join(missing)}; where no registry is in reach, "
        f"scripts/offline-images builds stand-ins for the sample system, and TOXIPROXY_IMAGE names another image of the "
        f"proxies; or run it with --runtime local:{tail}"
    )


def of_a_build(said: str) -> CouldNotRun:
    """Why images could not be built."""
    return of_images(said, {}) or CouldNotRun(f"an image could not be built:{_tail(said)}")


def of_nothing_known(said: str) -> CouldNotRun:
    """Compose's own last words."""
    return CouldNotRun(f"docker compose up failed:{_tail(said)}")


def _had_an_error(service: str, said: str) -> bool:
    return re.search(rf"^ *{re.escape(service)} +Error\b", said, re.MULTILINE) is not None


def _tail(said: str) -> str:
    return "".join(f"\n    {line}" for line in said.splitlines()[-TAIL:] if line.strip())
