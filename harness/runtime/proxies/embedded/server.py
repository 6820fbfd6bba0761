"""The engine as a process: it serves until it is told to end, or until whoever started it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.api import Api
from harness.runtime.proxies.embedded.control import Asked, ControlConnection
from harness.runtime.proxies.embedded.proxies import Registry, Surroundings
from harness.runtime.proxies.embedded.refusals import LoopbackPackets, Packets, Refusals
from harness.runtime.proxies.embedded.sources import Sources
from harness.runtime.proxies.embedded.toxics import Refused


@dataclass(frozen=True, slots=True)
class Options:
    """How one engine runs. `parent_fd` is the end of a pipe that closes when the starter is gone.

    `proxies` is an array as `/populate` takes it: these are made before the control API answers.
    """

    control: socket.socket
    parent_fd: int | None = None
    ignored: Sources = field(default_factory=Sources)
    any_address: bool = False
    packets: Packets = field(default_factory=LoopbackPackets)
    seed: int | None = None
    proxies: bytes = b"[]"


async def serve(options: Options) -> None:
    """Serve until a signal comes or the starter is gone; then heal everything and return."""
    loop = asyncio.get_running_loop()
    _allow_many_connections()
    around = Surroundings(
        loop,
        Alarm(loop),
        Random(options.seed),  # noqa: S311 -- chance that can be repeated is what is wanted
        Refusals(loop, options.ignored, options.packets),
        options.ignored,
        options.any_address,
    )
    registry = Registry(around)
    api = Api(registry, around.refusals)
    await _populate(api, options.proxies)
    control = await loop.create_server(lambda: ControlConnection(loop, api.answer), sock=options.control)
    gc.freeze()
    await _told_to_end(loop, options.parent_fd)
    control.close()
    with contextlib.suppress(Refused):  # a port that somebody else took meanwhile: there is nobody left to tell
        await registry.heal()
    registry.close()
    around.refusals.close()
    around.alarm.close()


async def _populate(api: Api, proxies: bytes) -> None:
    answer = await api.answer(Asked("POST", "/populate", proxies))
    if answer.status != HTTPStatus.CREATED:
        sys.exit(f"--config: {json.loads(answer.body)['error']}")


async def _told_to_end(loop: asyncio.AbstractEventLoop, parent_fd: int | None) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    if parent_fd is not None:
        os.set_blocking(parent_fd, False)
        loop.add_reader(parent_fd, _end_when_closed, parent_fd, end)
    await end.wait()
    if parent_fd is not None:
        loop.remove_reader(parent_fd)


def _end_when_closed(parent_fd: int, end: asyncio.Event) -> None:
    try:
        gone = not os.read(parent_fd, 1024)
    except BlockingIOError:
        return
    except OSError:
        gone = True
    if gone:
        end.set()


def _allow_many_connections() -> None:
    """Every connection takes two descriptors; the usual 1024 are soon used up."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
