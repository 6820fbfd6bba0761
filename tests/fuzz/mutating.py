"""Draws bad inputs: valid ones changed a little by somebody who knows the grammar, and bytes changed by nobody in particular.

Everything is drawn from the `Random` that is handed in, so that a number is enough to see an input again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

Place = tuple[str | int, ...]

WORDS: tuple[str, ...] = (
    "",
    " ",
    ".",
    "..",
    "/",
    "../../../etc/passwd",
    "/dev/zero",
    "a/b",
    "a\0b",
    "\ud800",
    "x" * 300,
    "x" * 5000,
    "-",
    "_a",
    "~",
    "null",
    "true",
    "=",
    "<<",
    "\x1b[31mred",
    "\u202e",
    "\ufeff",
    "</script>",
    "a -> b",
    "client -> gateway",
    "order -> shipping:99999",
    "order -> shipping:0/http",
    "http://shipping:99999/",
    "shipping:0",
    "outage-1",
    "baseline",
    "drain",
    "* **",
    "${",
    "${A:?no}",
    "{port}",
    "{0}",
    "{x!r:>{y}}",
    "%s %n",
    "0s",
    "1us",
    "24h",
    "25h",
    "1e999s",
    "-5s",
    "5",
    "0%",
    "0.0000001%",
    "100%",
    "1e308%",
    "1000% or 1ms",
    "1/s",
    "1000000/s",
    "1e-300/s",
    "0B",
    "999999999999999999GB",
    "1KB/s",
    "2027-13-45",
    "9999-12-31",
    "NaN",
    "1e400",
    "0x" + "f" * 5000,
    "9" * 5000,
    "1" + ":59" * 400,
)

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 65535, 65536, 2**31, -(2**31), 2**63 - 1, 2**63, 2**64, 10**30, -(10**400), 10**400,
    0.0, -0.0, 0.5, 1e-9, 1.5, 1e10, 1e18, 1e300, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip


def a_value(random: Random) -> Any:
    """Something that may stand anywhere."""
    kind = random.randrange(10)
    if kind < 4:
        return random.choice(WORDS)
    if kind < 8:
        return random.choice(NUMBERS)
    if kind == 8:
        return random.choice((None, True, False))
    return random.choice((_empty_list, _empty_mapping, _listed, _keyed, _deep))(random)


def _empty_list(_random: Random) -> Any:
    return []


def _empty_mapping(_random: Random) -> Any:
    return {}


def _listed(random: Random) -> Any:
    return [random.choice(WORDS) for _ in range(random.randint(1, 4))]


def _keyed(random: Random) -> Any:
    return {random.choice(WORDS): random.choice(NUMBERS) for _ in range(random.randint(1, 4))}


def _deep(random: Random) -> Any:
    value: Any = random.choice(NUMBERS)
    for _ in range(random.choice((5, 30, 90))):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def places(data: Any, at: Place = ()) -> Iterator[Place]:
    """Where something stands in plain data, all but the data itself."""
    entries: Sequence[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        entries = tuple(data.items())
    elif isinstance(data, list):
        entries = tuple(enumerate(data))
    for key, value in entries:
        yield (*at, key)
        yield from places(value, (*at, key))


def holder(data: Any, place: Place) -> Any:
    """What holds the last step of a place."""
    for step in place[:-1]:
        data = data[step]
    return data


def changed(random: Random, data: Any, most: int = 2) -> Any:
    """A copy of plain data in which a few things are other than they should be."""
    data = deepcopy(data)
    for _ in range(random.randint(1, most)):
        there = list(places(data))
        if not there:
            return a_value(random)
        place = random.choice(there)
        random.choice(CHANGES)(random, data, place)
    return data


def _replace(random: Random, data: Any, place: Place) -> None:
    holder(data, place)[place[-1]] = a_value(random)


def _drop(_random: Random, data: Any, place: Place) -> None:
    del holder(data, place)[place[-1]]


def _wrap(random: Random, data: Any, place: Place) -> None:
    inside = holder(data, place)
    inside[place[-1]] = random.choice(([inside[place[-1]]], {"a": inside[place[-1]]}, str(inside[place[-1]])[:4000]))


def _repeat(random: Random, data: Any, place: Place) -> None:
    inside = holder(data, place)
    if isinstance(inside, list):
        inside.extend([inside[place[-1]]] * random.choice((1, 2, 20)))
    else:
        inside[random.choice(WORDS)] = inside[place[-1]]


def _move(random: Random, data: Any, place: Place) -> None:
    """What stands in one place stands in another as well."""
    value = deepcopy(holder(data, place)[place[-1]])
    target = random.choice(list(places(data)))
    holder(data, target)[target[-1]] = value


def _rename(random: Random, data: Any, place: Place) -> None:
    inside = holder(data, place)
    if isinstance(inside, dict):
        value = inside.pop(place[-1])
        keys = [other[-1] for other in places(data) if isinstance(other[-1], str)]
        inside[random.choice(keys or ["a"]) if random.random() < 0.5 else random.choice(WORDS)] = value


def _scale(random: Random, data: Any, place: Place) -> None:
    inside = holder(data, place)
    value = inside[place[-1]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        inside[place[-1]] = random.choice((-value, value + 1, value - 1, str(value)[:50], value * 1000, [value], value > 0))


CHANGES: tuple[Callable[[Random, Any, Place], None], ...] = (_replace, _replace, _drop, _wrap, _repeat, _move, _rename, _scale)


# bytes


def raw(random: Random, content: bytes) -> bytes:
    """Bytes that were damaged on their way, or never were anything."""
    if random.random() < 0.05:
        return random.randbytes(random.choice((0, 1, 7, 100, 3000)))
    for _ in range(random.randint(1, 4)):
        content = random.choice(DAMAGES)(random, content)
    return content


def _span(random: Random, content: bytes) -> tuple[int, int]:
    first = random.randrange(len(content) + 1)
    return first, min(len(content), first + random.choice((1, 1, 2, 8, 60)))


def _flip(random: Random, content: bytes) -> bytes:
    first, last = _span(random, content)
    return content[:first] + random.randbytes(last - first) + content[last:]


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _take_out(random: Random, content: bytes) -> bytes:
    first, last = _span(random, content)
    return content[:first] + content[last:]


def _double(random: Random, content: bytes) -> bytes:
    first, last = _span(random, content)
    return content[:last] + content[first:last] * random.choice((1, 2, 50)) + content[last:]


def _insert(random: Random, content: bytes) -> bytes:
    first, _ = _span(random, content)
    return content[:first] + random.choice(MISCHIEF) + content[first:]


DAMAGES: tuple[Callable[[Random, bytes], bytes], ...] = (_flip, _cut, _take_out, _double, _insert, _insert)

MISCHIEF: tuple[bytes, ...] = (
    b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n", b"\x85", b"\xe2\x80\xa8", b"\t", b"\x1b[2J",
    b"'", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b": ", b"- ", b"? ", b"&a ", b"*a ", b"<<: ", b"| \n", b"> \n", b"%YAML 9.9\n",
    b"---\n", b"...\n", b"#", b"@", b"`", b"!!binary ", b"!!timestamp ", b"!!int ", b"!!float ", b"!!bool ", b"!!set ", b"!!omap ",
    b"!!python/object/apply:os.system ", b"!", b"!<x> ", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b'"\\UFFFFFFFF"',
    b'"\\x00"', b"[" * 2000, b"{" * 2000, b'{"a":' * 2000,
)  # fmt: skip


# YAML


def yaml_of(random: Random, text: str, data: Any) -> bytes:
    """A file that should be YAML: the same lines in disorder, the same content otherwise written, or damaged bytes."""
    kind = random.random()
    if kind < 0.15:
        return raw(random, text.encode())
    if kind < 0.5:
        return _finish(random, _disordered(random, text))
    return _finish(random, json.dumps(changed(random, data), ensure_ascii=random.random() < 0.5, default=str))


def _finish(random: Random, text: str) -> bytes:
    """Written as some editor would."""
    content = text.encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")
    if random.random() < 0.05:
        content = b"\xef\xbb\xbf" + content
    if random.random() < 0.05:
        content = content.replace(b"\n", b"\r\n")
    return content.decode("utf-8", "replace").encode("utf-16") if random.random() < 0.01 else content


def _disordered(random: Random, text: str) -> str:
    lines = text.split("\n")
    for _ in range(random.randint(1, 2)):
        place = random.randrange(len(lines))
        line = lines[place]
        indent = line[: len(line) - len(line.lstrip())]
        lines[place : place + 1] = random.choice(LINES)(random, indent, line)
    return "\n".join(lines)


def _another_value(random: Random, _indent: str, line: str) -> list[str]:
    key, colon, _ = line.partition(":")
    value = a_value(random)
    return [f"{key}{colon} {json.dumps(value) if random.random() < 0.5 else value}"]


def _tagged(random: Random, _indent: str, line: str) -> list[str]:
    key, colon, value = line.partition(":")
    return [f"{key}{colon} {random.choice(TAGS)} {value.strip() if random.random() < 0.5 else random.choice(('', '[]', 'x'))}"]


def _indented(random: Random, _indent: str, line: str) -> list[str]:
    return [random.choice((" ", "  ", "\t", "    ")) + line if random.random() < 0.7 else line.lstrip()]


def _twice(_random: Random, _indent: str, line: str) -> list[str]:
    return [line, line]


def _without(_random: Random, _indent: str, _line: str) -> list[str]:
    return []


def _more(random: Random, indent: str, line: str) -> list[str]:
    return [line, indent + random.choice(MORE)]


LINES: tuple[Callable[[Random, str, str], list[str]], ...] = (_another_value, _tagged, _indented, _twice, _without, _more)

TAGS = (
    "!!timestamp", "!!int", "!!float", "!!bool", "!!null", "!!binary", "!!set", "!!omap", "!!pairs", "!!seq", "!!map", "!!str",
    "!!python/name:os.system", "!x", "&a", "*a", "*nobody", "&b &c", "|", ">-", "|9", "? ", "- -",
)  # fmt: skip

MORE = (
    "<<: *a", "<<: {a: 1}", "<<: [{version: 1}, {version: 2}]", "<<: 5", "? [a, b]\n: 1", "? {a: 1}", "a: &a {b: *a}", "b: *a",
    "[]: 1", "1: 1", "null: 1", "~: 1", "true: 1", "2026-01-01: 1", ".inf: 1", "0x10: 1", "x-more: 1", "'': 1", "\"\\0\": 1",
    "\"\\ud800\": 1", "=: 1", "'a/../b': {}", "- a", "---", "...", "%TAG ! x", "# only a remark", "{{a: 1}: 2}", "a: 1e999999", "a: 0o777",
)  # fmt: skip


# lines of JSON


def json_lines(random: Random, lines: Sequence[Any]) -> bytes:
    """A file of JSON lines, of which a few are not what they should be."""
    written = [_line(line) for line in lines]
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(written))
        kind = random.random()
        if kind < 0.7:
            written[place] = _line(changed(random, lines[place]))
        elif kind < 0.85:
            written[place] = raw(random, written[place])
        else:
            other = random.randrange(len(written))
            written[place], written[other] = written[other], written[place]
    joint = random.choice((b"\n",) * 8 + (b"\r\n", b"\n\n"))
    return joint.join(written) + (b"\n" if random.random() < 0.9 else b"")


def _line(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def json_of(random: Random, data: Any) -> bytes:
    """One JSON document, changed or damaged."""
    if random.random() < 0.2:
        return raw(random, _line(data))
    return _line(changed(random, data))
