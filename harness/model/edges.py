"""Edges: who depends on whom. Every edge has its own proxy."""

from __future__ import annotations

import re
from typing import Literal

from harness.model.parts import Name, Part

CLIENT = "client"
"""The caller of the edge that leads into the system: whoever drives the load."""

Protocol = Literal["http", "postgresql", "redis", "tcp"]
"""What is spoken on an edge, as far as its address tells; it decides which probe can see a fault."""

EDGE = re.compile(r"\s*(?P<caller>[\w.-]+)\s*->\s*(?P<callee>[\w.-]+)(?::(?P<port>\d{1,5}))?\s*")


class Edge(Part):
    """A dependency: `caller` opens connections to `callee` on `port`.

    `name` is `caller -> callee`, with `:port` behind it where the caller uses several ports of one callee.
    `read_from` tells where the edge was found, as file and key.
    """

    name: str
    caller: Name
    callee: Name
    port: int
    protocol: Protocol = "tcp"
    read_from: str = ""
