"""The image that the container of the proxies is made of, and what it is started with."""

from __future__ import annotations

import os
from typing import Literal, assert_never

from harness.plan.plan import Plan
from harness.runtime.containers.rewrite import CONTROL_PORT, PROXIES_FILE, EngineContainer

TOXIPROXY_VERSION = "2.12.0"
TOXIPROXY = f"ghcr.io/shopify/toxiproxy:{TOXIPROXY_VERSION}"
TOXIPROXY_IMAGE = "TOXIPROXY_IMAGE"
"""The variable that names another image of Toxiproxy."""


def engine_container(engine: Literal["embedded", "toxiproxy"], plan: Plan) -> EngineContainer:
    """How the engine is run as a container."""
    match engine:
        case "toxiproxy":
            return _toxiproxy(plan.experiment.seed)
        case "embedded":
            raise NotImplementedError
        case _:
            assert_never(engine)


def _toxiproxy(_seed: int) -> EngineContainer:
    control = ["-host", "{host}", "-port", str(CONTROL_PORT)]
    return EngineContainer(
        image=os.environ.get(TOXIPROXY_IMAGE) or TOXIPROXY,
        command=[*control, "-config", PROXIES_FILE],
        health=["/toxiproxy-cli", "--host", f"http://{{host}}:{CONTROL_PORT}", "list"],
        environment={"LOG_LEVEL": "info"},
    )
