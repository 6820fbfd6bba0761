"""Foreign text made harmless: nothing in it steers a terminal, turns writing around, hides, or is no character of XML.

Names, messages and logs come from the system under test. What a page, XML or Markdown would read into them is escaped
where these are written; what no output can bear is taken away here, for all of them.
"""

from __future__ import annotations

import re

LONGEST = 400
"""Characters of one foreign text that are shown."""

LONGEST_LINE = 4000
"""Characters of a line of a message, which is written by the harness and quotes what is foreign."""

_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff0-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?", re.DOTALL)
_BREAKS = re.compile(r"[\t\r\n\v\f\x85\u2028\u2029]+")


def clean(text: str, longest: int = LONGEST) -> str:
    """The text on one line, without what is harmful."""
    flat = _HARMFUL.sub("", _BREAKS.sub(" ", _ESCAPE_SEQUENCE.sub("", text[: longest * 8])))
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"


def clean_lines(text: str) -> str:
    """The text with its lines as they are, each without what is harmful."""
    return "\n".join(clean(line, LONGEST_LINE) for line in text.split("\n"))


def clean_json(text: str) -> str:
    """JSON that means the same, in which whatever is harmful is written as an escape."""
    return _HARMFUL.sub(lambda found: found[0] if found[0] == "\n" else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    if ord(character) < 0x10000:
        return f"\\u{ord(character):04x}"
    high, low = divmod(ord(character) - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
