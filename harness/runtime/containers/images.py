"""The image that the container of the proxies is made of, and what it is started with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, assert_never

from harness.runtime.containers.rewrite import CONTROL_PORT, IGNORED_SOURCES, PROXIES_FILE, TOKEN_FILE, EngineContainer
from harness.runtime.proxies.image import build_args, image_tag, write_build_context

TOXIPROXY_VERSION = "2.12.0"
TOXIPROXY = f"ghcr.io/shopify/toxiproxy:{TOXIPROXY_VERSION}"
TOXIPROXY_IMAGE = "TOXIPROXY_IMAGE"
"""The variable that names another image of Toxiproxy."""

PYTHON_IMAGE = "PYTHON_IMAGE"
"""The variable that names another image with Python: the embedded engine's base, and what the guardian there runs on."""

PYTHON = "python:3.11-slim"


def engine_container(engine: Literal["embedded", "toxiproxy"], folder: Path, token: str) -> EngineContainer:
    """How the engine is run as a container; what it is built from, where it is, is written into `folder`.

    `token` is what the embedded one asks of whoever changes something: its control API is published. Toxiproxy knows none.
    """
    match engine:
        case "toxiproxy":
            return _toxiproxy()
        case "embedded":
            return _embedded(folder / "embedded", token)
        case _:
            assert_never(engine)


def images_with_python() -> tuple[str, ...]:
    """Images that have Python in them, best first: the first can be had, the others may be there already."""
    base = os.environ.get(PYTHON_IMAGE, "")
    return base or PYTHON, image_tag(base)


def _toxiproxy() -> EngineContainer:
    return EngineContainer(
        image=os.environ.get(TOXIPROXY_IMAGE) or TOXIPROXY,
        command=["-host", "{host}", "-port", str(CONTROL_PORT), "-config", PROXIES_FILE],
        environment={"LOG_LEVEL": "info"},
    )


def _embedded(folder: Path, token: str) -> EngineContainer:
    base = os.environ.get(PYTHON_IMAGE, "")
    if not folder.exists():
        write_build_context(folder)
    control = ["--host", "{host}", "--port", str(CONTROL_PORT), "--allow-any-address", "--token-file", TOKEN_FILE]
    return EngineContainer(
        image=image_tag(base),
        command=[*control, "--any-interface", "--config", PROXIES_FILE, IGNORED_SOURCES],
        environment={"LOG_LEVEL": "warn"},
        token=token,
        build={"context": str(folder), "args": build_args(base)},
    )
