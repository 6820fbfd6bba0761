"""Toxiproxy's HTTP API, version 2, over the proxies of this engine, and the engine's own `/edges` beside it.

Where it departs from Toxiproxy it does so to refuse what it would otherwise have to ignore: unknown keys and
attributes, values out of range, toxics that are not built in. A change that is refused has changed nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from harness import __version__
from harness.runtime.proxies.embedded.control import JSON, TEXT, Answer, Asked, error_answer, json_answer
from harness.runtime.proxies.embedded.proxies import Place, Proxy, Registry
from harness.runtime.proxies.embedded.refusals import Refusals
from harness.runtime.proxies.embedded.toxics import STREAMS, Refused, Toxic, lowered, named, text, toxic_from_data, updated

SPEAKS = "2.12.0"
"""The version of Toxiproxy whose API this is."""

PROXY_KEYS = ("name", "listen", "upstream", "enabled", "toxics", "logger")

Action = Callable[[tuple[str, ...], bytes], Awaitable[Answer]]


class Api:
    """Answers the requests of the control API, one at a time where they change something.

    `pages` are further paths that can be got.
    """

    def __init__(self, registry: Registry, refusals: Refusals, pages: Mapping[str, Action] | None = None) -> None:
        self._registry, self._refusals = registry, refusals
        self._changing = asyncio.Lock()
        self._routes: dict[tuple[str, ...], dict[str, Action]] = {
            ("version",): {"GET": self._version},
            ("edges",): {"GET": self._edges},
            ("reset",): {"POST": self._reset},
            ("populate",): {"POST": self._populate},
            ("proxies",): {"GET": self._list, "POST": self._create},
            ("proxies", "*"): {"GET": self._show, "PATCH": self._update, "POST": self._update, "DELETE": self._delete},
            ("proxies", "*", "toxics"): {"GET": self._list_toxics, "POST": self._add_toxic},
            ("proxies", "*", "toxics", "*"): {
                "GET": self._show_toxic,
                "PATCH": self._change_toxic,
                "POST": self._change_toxic,
                "DELETE": self._remove_toxic,
            },
            **{(path,): {"GET": action} for path, action in (pages or {}).items()},
        }

    async def answer(self, asked: Asked) -> Answer:
        """The answer to one request."""
        names, actions = self._route(asked.path)
        if actions is None:
            return Answer(404, b"404 page not found\n", TEXT, {"X-Content-Type-Options": "nosniff"})
        if asked.method not in actions:
            return Answer(405)
        answer = await self._act(actions[asked.method], names, asked)
        return replace(answer, headers={**answer.headers, "X-Toxiproxy-Request-Id": secrets.token_hex(8)})

    async def _act(self, action: Action, names: tuple[str, ...], asked: Asked) -> Answer:
        if asked.user_agent.startswith("Mozilla/"):  # a page in a browser must not reach this API
            return Answer(403, b"User agent not allowed\n", TEXT, {"X-Content-Type-Options": "nosniff"})
        try:
            if asked.method == "GET":
                return await action(names, asked.body)
            async with self._changing:
                return await action(names, asked.body)
        except Refused as refused:
            return error_answer(refused.status, refused.message)

    def _route(self, path: str) -> tuple[tuple[str, ...], dict[str, Action] | None]:
        parts = path.split("/")[1:]
        shape = tuple("*" if place % 2 and parts[0] == "proxies" and part else part for place, part in enumerate(parts))
        names = tuple(unquote(part) for part, kind in zip(parts, shape, strict=True) if kind == "*")
        return names, self._routes.get(shape)

    async def _version(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        return json_answer(200, {"version": SPEAKS, "engine": f"embedded {__version__}"})

    async def _edges(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        self._refusals.read()
        at = time.time()
        return json_answer(200, [proxy.counts.as_data(at, proxy.name) for proxy in self._registry.all()])

    async def _reset(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        await self._registry.heal()
        return Answer(204)

    async def _list(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        return json_answer(200, {proxy.name: proxy.as_data() for proxy in self._registry.all()})

    async def _create(self, _names: tuple[str, ...], body: bytes) -> Answer:
        given = proxy_from_data(_decoded(body))
        for key in ("name", "upstream"):
            if not given.get(key):
                raise Refused(400, f"missing required field: {key}")
        return json_answer(201, (await self._made(new_proxy(given))).as_data())

    async def _made(self, given: dict[str, Any]) -> Proxy:
        place = Place(given.get("listen") or "127.0.0.1:0", given["upstream"])
        return await self._registry.create(given["name"], place, given["toxics"], enabled=given.get("enabled", True))

    async def _show(self, names: tuple[str, ...], _body: bytes) -> Answer:
        return json_answer(200, self._registry.get(names[0]).as_data())

    async def _update(self, names: tuple[str, ...], body: bytes) -> Answer:
        proxy = self._registry.get(names[0])
        given = proxy_from_data(_decoded(body))
        listen, upstream = given.get("listen") or proxy.listen, given.get("upstream") or proxy.upstream_text
        await proxy.become(listen, upstream, enabled=given.get("enabled", proxy.enabled))
        return json_answer(200, proxy.as_data())

    async def _delete(self, names: tuple[str, ...], _body: bytes) -> Answer:
        self._registry.delete(names[0])
        return Answer(204)

    async def _populate(self, _names: tuple[str, ...], body: bytes) -> Answer:
        entries = _decoded(body)
        if not isinstance(entries, list):
            raise Refused(400, f"bad request body: expected an array of proxies, found {type(entries).__name__}")
        wanted = [proxy_from_data(entry) for entry in entries]
        for place, given in enumerate(wanted, start=1):
            for key in ("name", "upstream"):
                if not given.get(key):
                    raise Refused(400, f"missing required field: {key} at proxy {place}")
        wanted = [new_proxy(given) for given in wanted]
        done: list[dict[str, Any]] = []
        for given in wanted:
            try:
                done.append((await self._ensured(given)).as_data())
            except Refused as refused:
                data = {"error": refused.message, "status": refused.status, "proxies": done or None}
                return Answer(refused.status, json.dumps(data).encode(), JSON)
        return json_answer(201, {"proxies": done or None})

    async def _ensured(self, given: dict[str, Any]) -> Proxy:
        """The proxy as it is where it listens and forwards as asked, whatever its state; a new one otherwise."""
        there = self._registry.find(given["name"])
        if there is None:
            return await self._made(given)
        place = Place(given.get("listen") or there.listen, given["upstream"])
        if there.upstream_text == place.upstream and await self._registry.same_address(there, place.listen):
            asked = [toxic for stream in STREAMS for toxic in given["toxics"] if toxic.stream == stream]
            if asked and asked != there.toxics:
                raise Refused(409, "proxy already exists, with other toxics: delete it first, or change them one by one")
            return there
        return await self._registry.replace(there, place, given["toxics"], enabled=given.get("enabled", True))

    async def _list_toxics(self, names: tuple[str, ...], _body: bytes) -> Answer:
        return json_answer(200, [toxic.as_data() for toxic in self._registry.get(names[0]).toxics])

    async def _add_toxic(self, names: tuple[str, ...], body: bytes) -> Answer:
        proxy = self._registry.get(names[0])
        toxic = toxic_from_data(_decoded(body), taken=[toxic.name for toxic in proxy.toxics])
        proxy.add(toxic)
        return json_answer(200, toxic.as_data())

    async def _show_toxic(self, names: tuple[str, ...], _body: bytes) -> Answer:
        return json_answer(200, self._registry.get(names[0]).toxic(names[1]).as_data())

    async def _change_toxic(self, names: tuple[str, ...], body: bytes) -> Answer:
        proxy = self._registry.get(names[0])
        toxic = updated(proxy.toxic(names[1]), _decoded(body))
        proxy.change(toxic)
        return json_answer(200, toxic.as_data())

    async def _remove_toxic(self, names: tuple[str, ...], _body: bytes) -> Answer:
        await self._registry.get(names[0]).remove(names[1])
        return Answer(204)


def _decoded(body: bytes) -> Any:
    """The first value of the body; as in Toxiproxy nobody looks at what comes after it."""
    try:
        return json.JSONDecoder().raw_decode(body.decode().lstrip(" \t\r\n"))[0]
    except (ValueError, RecursionError) as error:
        reason = "EOF" if not body.strip() else str(error)
        raise Refused(400, f"bad request body: {reason}") from error


def proxy_from_data(data: object) -> dict[str, Any]:
    """What is asked for of a proxy."""
    given = lowered(data, PROXY_KEYS, "a proxy")
    for key in ("name", "listen", "upstream"):
        text(given.get(key, ""), key)
    enabled_from(given.get("enabled"))
    return given


def enabled_from(value: object) -> bool:
    """Whether a proxy is to listen; it is where nothing is said."""
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"bad request body: expected true or false for enabled, found {value!r}")
    return value is not False


def new_proxy(given: dict[str, Any]) -> dict[str, Any]:
    """What is asked for of a proxy that is to be made: an address of this API must lead to it, and its toxics are read."""
    named(given["name"], "name")
    toxics = given.get("toxics", [])
    if not isinstance(toxics, list):
        raise Refused(400, "bad request body: expected an array for toxics")
    read: dict[str, Toxic] = {}
    for data in toxics:
        toxic = toxic_from_data(data, taken=read)
        read[toxic.name] = toxic
    return {**given, "toxics": list(read.values())}
