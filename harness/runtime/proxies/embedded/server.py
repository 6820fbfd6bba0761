"""The engine as a process: it serves until it is told to end, or until whoever started it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import __version__
from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.api import SPEAKS, Api
from harness.runtime.proxies.embedded.api_log import ApiLog
from harness.runtime.proxies.embedded.config import Entry
from harness.runtime.proxies.embedded.control import Answer, ControlConnection, json_answer
from harness.runtime.proxies.embedded.door import Door
from harness.runtime.proxies.embedded.log import SILENT, Log
from harness.runtime.proxies.embedded.metrics import CONTENT_TYPE, page
from harness.runtime.proxies.embedded.populating import populate
from harness.runtime.proxies.embedded.proxies import Registry, Surroundings
from harness.runtime.proxies.embedded.refusals import LoopbackPackets, Packets, Refusals
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import Refused


@dataclass(frozen=True, slots=True)
class Options:
    """How one engine runs. `parent_fd` is the end of a pipe that closes when the starter is gone.

    The proxies of `config` are made before the control API answers. `token` is what whoever changes something there
    has to know, empty where anybody may.
    """

    control: socket.socket
    parent_fd: int | None = None
    ignored: Sources = field(default_factory=Sources)
    any_address: bool = False
    packets: Packets = field(default_factory=LoopbackPackets)
    seed: int | None = None
    config: Sequence[Entry] = ()
    runtime_metrics: bool = False
    token: str = ""
    log: Log = SILENT


async def serve(options: Options) -> None:
    """Serve until a signal comes or the starter is gone; then heal everything and return. Raises CannotStart."""
    loop, log = asyncio.get_running_loop(), options.log
    end = _reasons_to_end(loop, options.parent_fd)
    loop.set_exception_handler(lambda _loop, context: _tell_defect(log, context))
    _allow_many_connections()
    around = Surroundings(
        loop,
        Alarm(loop),
        options.seed,
        Refusals(loop, options.ignored, options.packets),
        options.ignored,
        options.any_address,
        log,
    )
    registry = Registry(around)
    watched = Watched(registry, around.refusals, of_process=options.runtime_metrics)
    api = Api(registry, around.refusals, {"health": watched.health, "metrics": watched.metrics})
    log.info("Starting embedded proxy engine", version=__version__, api=SPEAKS)
    await populate(options.config, api, around)
    through = Door(api.answer, options.token).answer if options.token else api.answer
    answer = ApiLog(through, log).answer
    control = await loop.create_server(lambda: ControlConnection(loop, answer), sock=options.control)
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)  # every connection leaves cycles behind: looking for them costs less at longer intervals
    log.info("Control API listens", addr=_address_of(options.control), proxies=len(registry.all()))
    log.info("Ending", reason=await end.get())
    if options.parent_fd is not None:
        loop.remove_reader(options.parent_fd)
    control.close()
    with contextlib.suppress(Refused):  # a port that somebody else took meanwhile: there is nobody left to tell
        await registry.heal()
    registry.close()
    around.refusals.close()
    around.alarm.close()


class Watched:
    """What is told beside Toxiproxy's API to whoever watches over the engine. Neither answer ever waits."""

    def __init__(self, registry: Registry, refusals: Refusals, *, of_process: bool) -> None:
        self._registry, self._refusals, self._of_process = registry, refusals, of_process
        self._since = time.monotonic()

    async def health(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        """That it answers at all is the news."""
        up, proxies = round(time.monotonic() - self._since, 3), len(self._registry.all())
        return json_answer(200, {"status": "ok", "version": __version__, "uptime": up, "proxies": proxies})

    async def metrics(self, _names: tuple[str, ...], _body: bytes) -> Answer:
        """For Prometheus."""
        self._refusals.read()
        told = await page(self._registry.all(), SPEAKS, of_process=self._of_process)
        return Answer(200, told, CONTENT_TYPE)


def _address_of(control: socket.socket) -> str:
    host, port = control.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tell_defect(log: Log, context: dict[str, Any]) -> None:
    """What nobody awaited or caught, as the loop hands it over."""
    reason = context.get("exception")
    told = {"traceback": traceback.format_exception(reason)} if isinstance(reason, BaseException) else {}
    log.error(str(context.get("message", "unexpected")), error=repr(reason), **told)


def _reasons_to_end(loop: asyncio.AbstractEventLoop, parent_fd: int | None) -> asyncio.Queue[str]:
    """Where each reason to end comes: a signal's name, or that the starter is gone."""
    end: asyncio.Queue[str] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.put_nowait, number.name)
    if parent_fd is not None:
        os.set_blocking(parent_fd, False)
        loop.add_reader(parent_fd, _end_when_closed, parent_fd, end)
    return end


def _end_when_closed(parent_fd: int, end: asyncio.Queue[str]) -> None:
    try:
        gone = not os.read(parent_fd, 1024)
    except BlockingIOError:
        return
    except OSError:
        gone = True
    if gone:
        end.put_nowait("its starter is gone")


def _allow_many_connections() -> None:
    """Every connection takes two descriptors; the usual 1024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
