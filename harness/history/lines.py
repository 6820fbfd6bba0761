"""Lines of JSON as they are found, whoever wrote them: an object each, or nothing that can be used."""

from __future__ import annotations

import json
from typing import Any


def object_in(line: bytes) -> dict[str, Any] | None:
    """The object that a line holds; half a character, which JSON can escape and UTF-8 cannot hold, is shown as unknown."""
    try:
        text = line.decode("utf-8")
        data = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            data = json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
