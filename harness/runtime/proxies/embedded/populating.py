"""Making the proxies of a file: all of it is looked into before the first is made, and all that is wrong is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from harness.runtime.proxies.embedded.api import PROXY_KEYS, Api, enabled_from, new_proxy, proxy_from_data
from harness.runtime.proxies.embedded.api_log import of_proxy
from harness.runtime.proxies.embedded.config import COULD_NOT_RUN, INVALID, CannotStart, Entry, name_of, numbered
from harness.runtime.proxies.embedded.control import Asked
from harness.runtime.proxies.embedded.proxies import Surroundings, resolve, split_upstream
from harness.runtime.proxies.embedded.toxics import (
    EFFECTS,
    TOXIC_KEYS,
    Refused,
    checks_of,
    kind_from,
    lowered,
    named,
    seed_from,
    share,
    stream_from,
    text,
    toxic_from_data,
)


async def populate(entries: Sequence[Entry], api: Api, around: Surroundings) -> None:
    """Make a proxy for each entry. Raises CannotStart with everything that is in the way."""
    wrong = [f"{entry.place}: {problem}" for entry in entries for problem in problems_of(entry.data)]
    wrong += _shared_names(entries)
    wrong += await _unfit_addresses(entries, around)
    if wrong:
        raise CannotStart(INVALID, *wrong)
    failed: list[str] = []
    for entry in entries:
        answer = await api.answer(Asked("POST", "/populate", json.dumps([entry.data]).encode()))
        told = json.loads(answer.body)
        if answer.status == HTTPStatus.CREATED:
            around.log.info("Populated proxy", **of_proxy(told["proxies"][0]))
        else:
            failed.append(f"{entry.place}: {told['error']}")
    if failed:
        raise CannotStart(COULD_NOT_RUN, *failed)


def problems_of(data: object) -> list[str]:
    """Why this can be no proxy, every reason: the control API tells the first alone."""
    problems = [*_key_problems(data, PROXY_KEYS, "a proxy")]
    given = _known(data, PROXY_KEYS)
    if isinstance(data, dict | None):
        problems += [f"missing required field: {key}" for key in ("name", "upstream") if not given.get(key)]
    if given.get("name"):
        problems += _refusal(named, given["name"], "name")
    if given.get("upstream"):
        problems += _refusal(lambda: split_upstream(text(given["upstream"], "upstream")))
    problems += _refusal(text, given.get("listen", ""), "listen")
    problems += _refusal(enabled_from, given.get("enabled"))
    problems += _toxic_problems(given.get("toxics", []))
    return problems or _refusal(lambda: new_proxy(proxy_from_data(data)))


def _toxic_problems(toxics: object) -> Iterator[str]:
    if not isinstance(toxics, list):
        yield "expected an array for toxics"
        return
    taken: set[str] = set()
    for number, data in enumerate(toxics, start=1):
        problems = _problems_of_toxic(data) or _refusal(lambda data=data: taken.add(toxic_from_data(data, taken).name))
        yield from (f"{numbered('toxic', number, data)}: {problem}" for problem in problems)


def _problems_of_toxic(data: object) -> list[str]:
    """What each key shows by itself."""
    given = _known(data, TOXIC_KEYS)
    problems = [*_key_problems(data, TOXIC_KEYS, "a toxic")]
    if isinstance(data, dict | None):
        problems += _refusal(kind_from, given.get("type"))
    problems += _refusal(stream_from, given.get("stream"))
    if given.get("name"):
        problems += _refusal(named, given["name"], "name")
    problems += _refusal(share, "toxicity", given.get("toxicity", 1.0))
    problems += _refusal(seed_from, given.get("seed"))
    return [*problems, *_attribute_problems(given.get("type"), given.get("attributes"))]


def _attribute_problems(kind: object, attributes: object) -> Iterator[str]:
    if not isinstance(kind, str) or kind not in EFFECTS:
        return
    checks = checks_of(EFFECTS[kind])
    yield from _key_problems(attributes, tuple(checks), f"the attributes of {kind}")
    for name, value in _known(attributes, tuple(checks)).items():
        yield from _refusal(checks[name], name, value)


def _key_problems(data: object, known: tuple[str, ...], what: str) -> Iterator[str]:
    yield from (f"{what}: expected {key} once, found it more often" for key in getattr(data, "repeated", ()))
    yield from _refusal(lowered, data, known, what)


def _known(data: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict):
        return {}
    return {key.lower(): value for key, value in data.items() if key.lower() in known and value is not None}


def _refusal(check: Callable[..., object], *given: object) -> list[str]:
    """Why the check refuses what it is given, if it does."""
    try:
        check(*given)
    except Refused as refused:
        return [refused.message.removeprefix("bad request body: ")]
    return []


def _shared_names(entries: Sequence[Entry]) -> Iterator[str]:
    """Who is called as somebody before: it would replace that one."""
    places: dict[str, str] = {}
    for entry in entries:
        name = name_of(entry.data)
        if name in places:
            yield f"{entry.place}: expected another name than that of {places[name]}"
        elif name:
            places[name] = entry.place


async def _unfit_addresses(entries: Sequence[Entry], around: Surroundings) -> list[str]:
    """Who is to listen where it is not allowed, or where somebody before does already. Port 0 is another one each time."""
    wrong: list[str] = []
    places: dict[tuple[str, int], str] = {}
    for entry in entries:
        listen = _known(entry.data, PROXY_KEYS).get("listen")
        if not isinstance(listen, str) or not listen:
            continue
        try:
            address = await resolve(listen, around)
        except Refused as refused:
            wrong.append(f"{entry.place}: {refused.message}")
            continue
        if address in places:
            wrong.append(f"{entry.place}: expected another address to listen on than that of {places[address]}, found {listen}")
        elif address[1]:
            places[address] = entry.place
    return wrong
