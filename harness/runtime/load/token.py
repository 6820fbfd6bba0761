"""The token by which a run and load processes on other machines show each other that they belong together.

It never goes over the network.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from harness.errors import InvalidInput

TOKEN, TOKEN_FILE = "CHAOS_WORKER_TOKEN", "CHAOS_WORKER_TOKEN_FILE"
SHORTEST = 16
WORKER, RUN = "worker", "run"
"""Whose proof it is: that of one side is none for the other, so nobody can have one side make that of the other."""

HOW = (
    f"set {TOKEN}, or {TOKEN_FILE} to the path of a file with it, to the same on each machine; a new one is made by "
    'python -c "import secrets; print(secrets.token_urlsafe(32))"'
)


def worker_token(environ: Mapping[str, str]) -> bytes:
    """The token that this machine was given; raises InvalidInput where it was given none."""
    text = environ.get(TOKEN, "")
    if not text and (path := environ.get(TOKEN_FILE)):
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{TOKEN_FILE}: expected a file with a token, found: {error}; {HOW}") from error
    token = text.strip().encode("utf-8", "surrogateescape")
    if len(token) < SHORTEST:
        found = f"one of {len(token)} characters" if token else "none"
        raise InvalidInput(
            f"load processes on other machines: expected a token of at least {SHORTEST} characters, found {found}; {HOW}"
        )
    return token


def proof_of(token: bytes, challenge: str, by: str) -> str:
    """What shows whoever made the challenge that the token is known."""
    return hmac.new(token, f"{by}:{challenge}".encode("utf-8", "surrogatepass"), sha256).hexdigest()


def proves(token: bytes, challenge: str, proof: object, by: str) -> bool:
    """Whether that is the proof; to try takes as long whatever is wrong."""
    return hmac.compare_digest(proof_of(token, challenge, by), proof if isinstance(proof, str) and proof.isascii() else "")
