"""What the log tells of the control API: every change that was made, every request that was turned away."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from urllib.parse import unquote

from harness.runtime.proxies.embedded.control import Answer, Asked
from harness.runtime.proxies.embedded.log import Log

_DONE = {
    ("POST", 1): "Created proxy",
    ("PATCH", 2): "Changed proxy",
    ("POST", 2): "Changed proxy",
    ("DELETE", 2): "Deleted proxy",
    ("POST", 3): "Added toxic",
    ("PATCH", 4): "Changed toxic",
    ("POST", 4): "Changed toxic",
    ("DELETE", 4): "Removed toxic",
}
"""By method and by how many parts the path under `/proxies` has."""


class ApiLog:
    """The control API with a log of it: in place of the API's own `answer`."""

    def __init__(self, answer: Callable[[Asked], Awaitable[Answer]], log: Log) -> None:
        self._answer, self._log = answer, log

    async def answer(self, asked: Asked) -> Answer:
        """The API's answer, which is then told of."""
        began = monotonic()
        answer = await self._answer(asked)
        if self._log.tells_debug:
            milliseconds = round((monotonic() - began) * 1000, 3)
            self._log.debug("Request", method=asked.method, url=asked.path, status=answer.status, duration=milliseconds)
        if self._log.tells_info and asked.method != "GET":
            self._tell(asked, answer)
        return answer

    def _tell(self, asked: Asked, answer: Answer) -> None:
        data = _data_of(answer)
        if answer.status >= 400:
            told = data.get("error") or answer.body.decode("utf-8", "replace").strip()
            self._log.info("Refused request", method=asked.method, url=asked.path, status=answer.status, error=told)
        if asked.path == "/populate":
            for proxy in data.get("proxies") or ():
                self._log.info("Populated proxy", **of_proxy(proxy))
        elif answer.status < 400:
            self._tell_change(asked, data)

    def _tell_change(self, asked: Asked, data: dict[str, Any]) -> None:
        parts = [unquote(part) for part in asked.path.split("/")[1:]]
        message = _DONE.get((asked.method, len(parts)))
        if parts == ["reset"]:
            self._log.info("Reset all proxies")
        elif message is not None:
            path = dict(zip(("proxy", "toxic"), parts[1::2], strict=False))
            of_data = of_proxy(data) if len(parts) <= 2 else _of_toxic(data)
            self._log.info(message, **{**path, **of_data})


def of_proxy(data: dict[str, Any]) -> dict[str, Any]:
    """What the log tells of a proxy that was made or changed, by what the API shows of it."""
    if not data:
        return {}
    shown = {"proxy": data["name"], "listen": data["listen"], "upstream": data["upstream"], "enabled": data["enabled"]}
    return {**shown, "toxics": [toxic["name"] for toxic in data["toxics"]]} if data["toxics"] else shown


def _of_toxic(data: dict[str, Any]) -> dict[str, Any]:
    return {"toxic": data["name"], **{name: data[name] for name in data if name != "name"}} if data else {}


def _data_of(answer: Answer) -> dict[str, Any]:
    try:
        data = json.loads(answer.body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
