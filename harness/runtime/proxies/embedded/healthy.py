"""Who answers at a control API, asked from outside: for health checks, and for whoever finds the port taken."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

WITHIN = 3.0
"""Seconds for all of it."""

MOST = 64 * 1024
"""Bytes of an answer that are read."""


def is_healthy(host: str, port: int) -> bool:
    """Whether an embedded engine's control API answers there, and says that it is well."""
    return _asked(host, port, "/health").get("status") == "ok"


def who_answers(host: str, port: int) -> str:
    """What the control API there is, in words; empty where none answers."""
    told = _asked(host, port, "/version")
    if "engine" in told:
        return f"the engine {told['engine']!r}"
    return f"a Toxiproxy {told['version']}" if "version" in told else ""


def _asked(host: str, port: int, path: str) -> dict[str, Any]:
    """What is answered in JSON; nothing where the answer is an error or something else."""
    question = f"GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n"
    answer, end = b"", time.monotonic() + WITHIN
    try:
        with socket.create_connection((host, port), WITHIN) as connection:
            connection.sendall(question.encode())
            while len(answer) < MOST and (piece := connection.recv(4096)):
                answer += piece
                connection.settimeout(max(0.001, end - time.monotonic()))
        head, _, body = answer.partition(b"\r\n\r\n")
        told = json.loads(body) if head.startswith(b"HTTP/1.1 200 ") else {}
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
