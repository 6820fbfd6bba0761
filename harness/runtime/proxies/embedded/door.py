"""Who may change something through the control API: whoever knows its token, where it has one.

The services under test reach that API, too; none of them shall heal its own fault.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path

from harness.runtime.proxies.embedded.config import INVALID, CannotStart
from harness.runtime.proxies.embedded.control import TEXT, Answer, Asked

SHORTEST_TOKEN = 16

REFUSED = Answer(
    401,
    b"expected Authorization: Bearer TOKEN, with the token of --token-file; found none, or another\n",
    TEXT,
    {"WWW-Authenticate": "Bearer", "X-Content-Type-Options": "nosniff"},
)


class Door:
    """Lets requests through to `answer`: those that only ask, and of the others those with the token."""

    def __init__(self, answer: Callable[[Asked], Awaitable[Answer]], token: str) -> None:
        self._answer, self._proof = answer, b"Bearer " + token.encode()

    async def answer(self, asked: Asked) -> Answer:
        """The answer to one request."""
        if asked.method == "GET" or hmac.compare_digest(asked.authorization, self._proof):
            return await self._answer(asked)
        return REFUSED


def read_token(path: Path) -> str:
    """The token in a file, on one line; raises CannotStart."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise CannotStart(INVALID, f"--token-file: expected a file with a token, found: {error}") from error
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        expected = f"expected at least {SHORTEST_TOKEN} letters and digits on one line"
        raise CannotStart(INVALID, f"--token-file: {path}: {expected}, found something else")
    return token
