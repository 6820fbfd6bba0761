"""One connection through a proxy: two sockets, two ways between them, and what the toxics make of it.

The rules that keep it alive: an end that was closed by its peer may still be written to (half-close); `write_eof`
is called once and never on a closing transport, for uvloop aborts the process otherwise; nobody is read from
faster than the other side takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Protocol

from harness.runtime.proxies.embedded.alarm import Alarm
from harness.runtime.proxies.embedded.counts import Counts
from harness.runtime.proxies.embedded.http_faults import HttpFilter
from harness.runtime.proxies.embedded.lookups import Addresses, Upstream
from harness.runtime.proxies.embedded.matching import Fault, HttpFaults
from harness.runtime.proxies.embedded.stages import ROOM, Passage, Stage, stage_for
from harness.runtime.proxies.embedded.tap import NOT_HTTP, Tap
from harness.runtime.proxies.embedded.toxics import StreamEffect, Toxic

DIAL_WITHIN = 30.0
"""Seconds for reaching the upstream; longer than callers usually wait, so that a silent one looks silent."""

_DIALLING, _FULL, _HELD, _SILENT, _WAITING = 1, 2, 4, 8, 16
_STUCK = _FULL | _SILENT
_RESET = struct.pack("ii", 1, 0)


MOST_HELD = 256 * 1024 * 1024
"""Bytes that all connections together may hold back; beyond that none may hold more than `ROOM`."""


class Held:
    """How many bytes all connections of an engine hold back."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0


class Edge(Protocol):
    """What a connection needs to know of the proxy it belongs to."""

    loop: asyncio.AbstractEventLoop
    alarm: Alarm
    upstream: Upstream
    held: Held
    connections: set[Connection]
    unreachable: bool
    http: HttpFaults

    @property
    def enabled(self) -> bool:
        """Whether connections may live."""
        ...

    def accept(self, connection: Connection) -> int:
        """One more connection; its number among all that this proxy ever had."""
        ...

    def counts_for(self, source: str) -> Counts:
        """Where a connection from this address is counted."""
        ...

    def draw(self, toxic: Toxic, connection: Connection) -> float:
        """What a connection drew for a toxic, from 0 to 1: it is struck where that is below the toxicity."""
        ...

    def random_of(self, toxic: str) -> Random:
        """The chance of the toxic of this name."""
        ...

    def toxics_of(self, stream: str) -> list[Toxic]:
        """The toxics of one direction, in the order in which they act."""
        ...

    def unreached(self, reason: Exception) -> None:
        """A connection could not be led to the upstream."""
        ...


class End(asyncio.Protocol):
    """One socket of a connection. What it reads goes out by `out`; what is written to it came by `into`.

    Every request passes here twice, so what is needed then is at hand: where nothing stands between, what was read is
    counted in `counts` and goes to the end `straight`, else `pass_on` takes it; `write` may be called while an end is `open`.
    """

    __slots__ = ("connection", "counts", "eof_sent", "into", "open", "out", "pass_on", "straight", "tap", "transport", "write")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.transport: Any = None
        self.open = self.eof_sent = False
        self.tap: Tap | None = None
        self.straight: End | None = None
        self.counts: Counts
        self.out: Direction
        self.into: Direction
        self.pass_on: Callable[[bytes], None]
        self.write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.write = transport.write  # type: ignore[attr-defined]  # the transport of a stream has it
        self.open = True
        self.connection.made(self)

    def eof_received(self) -> bool:
        if not self.out.ended:
            self.out.ended = True
            self.out.end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- every end of it is the same
        self.open = False
        self.transport = None
        self.connection.lost(self)

    def pause_writing(self) -> None:
        self.into.block(_FULL)

    def resume_writing(self) -> None:
        self.into.unblock(_FULL)

    def send_eof(self) -> None:
        """Close this end for writing, its peer may go on sending."""
        if self.open and not self.eof_sent and not self.transport.is_closing():
            self.eof_sent = True
            self.transport.write_eof()

    def close(self) -> None:
        """Close once everything has been written."""
        self.open = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    def abort(self) -> None:
        """Close now."""
        self.open = False
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """Close now, with a reset."""
        self.open = False
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and not self.transport.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()


class ClientEnd(End):
    """The end that the caller opened: its requests are read along, while the callee reads them if nothing stands between."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        callee, tap = self.straight, self.tap
        if callee is not None and callee.open:
            self.counts.bytes_up += len(data)
            callee.write(data)
        else:
            callee = None
        if tap is not None and tap.requests is not None:
            try:
                tap.requests(data)
            except NOT_HTTP as error:
                tap.stumble(error, data)
        if callee is None:
            self.pass_on(data)

    def pause_writing(self) -> None:
        self.into.block(_FULL)
        self.connection.caller_is_full(full=True)

    def resume_writing(self) -> None:
        self.into.unblock(_FULL)
        self.connection.caller_is_full(full=False)


class CalleeEnd(End):
    """The end at the upstream: its answers are read along once they are on their way."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        caller = self.straight
        if caller is None or not caller.open:
            self.pass_on(data)
            return
        self.counts.bytes_down += len(data)
        caller.write(data)
        tap = caller.tap
        if tap is not None and tap.answers is not None:
            try:
                tap.answers(data)
            except NOT_HTTP:
                tap.give_up()


class Outlet:
    """The end of a direction: what comes here has passed, is counted, and is written."""

    __slots__ = ("_dest", "_direction", "counts", "finished", "kept")

    def __init__(self, direction: Direction, dest: End) -> None:
        self._direction, self._dest = direction, dest
        self.counts: Counts
        self.finished = False
        self.kept: list[bytes | None] | None = None

    def feed(self, data: bytes) -> None:
        if self.kept is not None:
            self._keep(data)
        elif self._dest.open:
            self.counts.bytes_up += len(data)
            self._dest.write(data)

    def finish(self) -> None:
        if self.kept is not None:
            self.kept.append(None)
            return
        self.finished = True
        self._direction.connection.finished(self._direction)

    def silence(self) -> None:
        """What comes from now on is kept."""
        if self.kept is None:
            self.kept = []

    def speak(self) -> None:
        """What was kept passes."""
        kept, self.kept = self.kept, None
        for data in kept or ():
            if data is None:
                self.finish()
            else:
                self._direction.let_go(len(data), self)
                self.feed(data)

    def _keep(self, data: bytes) -> None:
        assert self.kept is not None
        self.kept.append(data)
        self._direction.keep(len(data))


class OutletDown(Outlet):
    """The outlet to the caller: answers are read along as they reach it."""

    __slots__ = ()

    def feed(self, data: bytes) -> None:
        dest = self._dest
        if self.kept is not None:
            self._keep(data)
        elif dest.open:
            self.counts.bytes_down += len(data)
            tap = dest.tap
            if tap is not None and tap.answers is not None:
                try:
                    tap.answers(data)
                except NOT_HTTP:
                    tap.give_up()
            dest.write(data)


class Entry:
    """Before toxics of a direction: what goes in counts as kept, lost or held, until it comes out."""

    __slots__ = ("_direction", "next")

    def __init__(self, direction: Direction, following: Passage) -> None:
        self._direction, self.next = direction, following

    def feed(self, data: bytes) -> None:
        self._direction.keep(len(data))
        self.next.feed(data)

    def finish(self) -> None:
        self.next.finish()


class Exit:
    """Behind toxics of a direction."""

    __slots__ = ("_direction", "next")

    def __init__(self, direction: Direction, following: Passage) -> None:
        self._direction, self.next = direction, following

    def feed(self, data: bytes) -> None:
        self._direction.let_go(len(data), self.next)
        self.next.feed(data)

    def finish(self) -> None:
        self.next.finish()


class Direction:
    """One way of a connection: from a source through its stages to the outlet. This is the `Way` of its stages.

    Where toxics of HTTP act, `reader` takes what the source reads and gives it to the direction itself, which is its
    `Passage`; and its exit leads to another one before the outlet.
    """

    __slots__ = (
        "_all_held",
        "_blocked",
        "_close_at_end",
        "_drawn",
        "_exit",
        "_held",
        "_owed",
        "_room",
        "_stages",
        "_struck",
        "alarm",
        "connection",
        "dest",
        "ended",
        "first",
        "is_new",
        "onward",
        "outlet",
        "random_of",
        "reader",
        "source",
        "stream",
    )

    def __init__(self, connection: Connection, stream: str, source: End, dest: End) -> None:
        self.connection, self.stream, self.source, self.dest = connection, stream, source, dest
        self.alarm = connection.edge.alarm
        self.random_of = connection.edge.random_of
        self.outlet = Outlet(self, dest) if stream == "upstream" else OutletDown(self, dest)
        self.reader: Passage | None = None
        self.onward: Callable[[bytes], None]
        self.ended = False
        self.is_new = True
        self._exit = Exit(self, self.outlet)
        self._stages: dict[str, Stage] = {}
        self._drawn: dict[str, float] = {}
        self._struck: set[str] = set()
        self._blocked = 0
        self._held = 0
        self._owed = 0
        self._all_held = connection.edge.held
        self._room = ROOM
        self._close_at_end = False
        source.out = self
        dest.into = self
        self.lead_to(self.outlet)

    def lead_to(self, first: Passage) -> None:
        """What the source reads goes there."""
        self.first: Passage = first
        self.onward = first.feed
        if self.reader is None:
            self.source.pass_on = self.onward
        self._straighten()

    def read_by(self, reader: Passage | None) -> None:
        """Before anything else, what the source reads goes there; nowhere else where there is none."""
        self.reader = reader
        self.source.pass_on = self.onward if reader is None else reader.feed
        self._straighten()

    def end_in(self, last: Passage) -> None:
        """What has passed all stages goes there."""
        self._exit.next = last
        if not self._stages:
            self.lead_to(last)

    def feed(self, data: bytes) -> None:
        """What the reader passes on."""
        self.let_go(len(data), self.first)
        self.onward(data)

    def finish(self) -> None:
        """The reader has no more to pass on."""
        self.first.finish()

    def end(self) -> None:
        """The source has no more."""
        (self.reader or self.first).finish()

    def keep(self, size: int) -> None:
        """So many more bytes were read and have not passed (less, where negative)."""
        if self.stream == "upstream":
            self.outlet.counts.kept_up += size
        else:
            self.outlet.counts.kept_down += size

    def let_go(self, size: int, following: Passage) -> None:
        """So many bytes come out of toxics and go there; at an outlet without a socket they are lost all the same."""
        if following is not self.outlet or self.dest.open:
            self.keep(-size)

    def add(self, toxic: Toxic) -> None:
        """Let a toxic act from now on, behind those that do already, if this connection is among those it strikes."""
        if not self._is_struck_by(toxic):
            return
        assert isinstance(toxic.effect, StreamEffect)
        stage = stage_for(toxic.effect, toxic.name, self, self._exit)
        if self._stages:
            next(reversed(self._stages.values())).next = stage
        else:
            self.lead_to(Entry(self, stage))
        self._stages[toxic.name] = stage
        self._make_room()

    def change(self, toxic: Toxic) -> None:
        """A toxic's attributes or its toxicity were changed; what this connection drew for it stays as it was."""
        assert isinstance(toxic.effect, StreamEffect)
        stage = self._stages.get(toxic.name)
        if stage is None:
            self.add(toxic)
            self._put_in_order()
        elif self._is_struck_by(toxic):
            stage.change(toxic.effect)
            self._make_room()
        else:
            self._take_out(toxic.name)

    def remove(self, name: str) -> None:
        """A toxic acts no more; what it held passes, what it lost stays lost."""
        self._take_out(name)
        self._drawn.pop(name, None)
        self._struck.discard(name)

    def drop(self) -> None:
        """The connection is over: nothing passes any more."""
        for stage in self._stages.values():
            stage.drop()
        self._stages.clear()
        self._all_held.size -= self._held
        self._all_held = Held()  # what is told from now on counts no more
        self.lead_to(self.outlet)

    def strike(self, toxic: str) -> None:
        if toxic not in self._struck:
            self._struck.add(toxic)
            self.connection.counts.strike(toxic)

    def hold(self, size: int) -> None:
        if size < 0 and self._blocked & _STUCK:  # it passed, and waits at the other end
            self._owed -= size
            return
        self._held += size
        self._all_held.size += size
        room = self._room if self._all_held.size <= MOST_HELD else ROOM
        if self._held > room:
            self.block(_HELD)
        elif self._blocked & _HELD and self._held <= room // 2:
            self.unblock(_HELD)

    def close_at_end(self) -> None:
        self._close_at_end = True

    @property
    def is_full(self) -> bool:
        """Whether the destination takes less than comes."""
        return bool(self._blocked & _FULL)

    @property
    def closes_at_end(self) -> bool:
        """Whether its end is that of the whole connection."""
        return self._close_at_end

    def cut(self) -> None:
        self.connection.strike_down(End.abort)

    def reset(self) -> None:
        self.connection.strike_down(End.reset)

    def silence(self) -> None:
        """Nothing is read and nothing is written any more."""
        self.block(_SILENT)
        self.outlet.silence()
        self._straighten()

    def keep_silent(self) -> None:
        """Where nothing is to be read, do not."""
        if self._blocked:
            self._reading(pause=True)

    def speak(self) -> None:
        """Go on as if nothing had been."""
        self.outlet.speak()
        self._straighten()
        self.unblock(_SILENT)

    def block(self, reason: int) -> None:
        """Read no more from the source, for this reason."""
        if not self._blocked:
            self._reading(pause=True)
        self._blocked |= reason

    def unblock(self, reason: int) -> None:
        """This reason not to read is over."""
        if self._blocked:
            self._blocked &= ~reason
            if self._owed and not self._blocked & _STUCK:
                owed, self._owed = self._owed, 0
                self.hold(-owed)
            if not self._blocked:
                self._reading(pause=False)

    def _straighten(self) -> None:
        """Let the source write to the destination by itself where nothing stands between."""
        is_straight = self.first is self.outlet and self.reader is None and self.outlet.kept is None
        self.source.straight = self.dest if is_straight else None

    def _reading(self, *, pause: bool) -> None:
        transport = self.source.transport
        if transport is None or self.ended or transport.is_closing():
            return
        if pause:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _is_struck_by(self, toxic: Toxic) -> bool:
        if toxic.toxicity == 1:
            return True
        drawn = self._drawn.get(toxic.name)
        if drawn is None:
            drawn = self._drawn[toxic.name] = self.connection.edge.draw(toxic, self.connection)
        return drawn < toxic.toxicity

    def _take_out(self, name: str) -> None:
        stage = self._stages.pop(name, None)
        if stage is not None:
            stage.remove()
            self._join()

    def _put_in_order(self) -> None:
        names = [toxic.name for toxic in self.connection.edge.toxics_of(self.stream)]
        self._stages = {name: self._stages[name] for name in names if name in self._stages}
        self._join()

    def _join(self) -> None:
        following: Passage = self._exit
        for stage in reversed(self._stages.values()):
            stage.next = following
            following = stage
        first = next(iter(self._stages.values()), None)
        if first is None:
            self.lead_to(self._exit.next)
        else:
            self.lead_to(Entry(self, first))
        self._make_room()

    def _make_room(self) -> None:
        self._room = max((stage.room for stage in self._stages.values()), default=ROOM)
        self.hold(0)


class Early:
    """Keeps what a client sends before its upstream is reached; after the first chunk the client is no longer read."""

    __slots__ = ("_direction", "chunks", "finished")

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self.chunks: list[bytes] = []
        self.finished = False

    def feed(self, data: bytes) -> None:
        self.chunks.append(data)
        self._direction.block(_DIALLING)

    def finish(self) -> None:
        self.finished = True


class Connection:
    """One client's connection through a proxy, from its being accepted until both sockets are gone."""

    __slots__ = (
        "_concluded",
        "_dial",
        "_early",
        "_filter",
        "_later",
        "_over",
        "_tap",
        "client",
        "counts",
        "down",
        "edge",
        "number",
        "server",
        "up",
    )

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.client, self.server = ClientEnd(self), CalleeEnd(self)
        self.up = Direction(self, "upstream", self.client, self.server)
        self.down = Direction(self, "downstream", self.server, self.client)
        self._early: Early | None = Early(self.up)
        self.up.lead_to(self._early)
        self._dial: asyncio.Task[None] | None = None
        self._filter: HttpFilter | None = None
        self._over = self._concluded = False
        self._later: Callable[[], None] | None = None

    def made(self, end: End) -> None:
        """A socket of this connection is there."""
        if end is self.client:
            self.number = self.edge.accept(self)
            self._count_in(end.transport.get_extra_info("peername"))
            self._dial = self.edge.loop.create_task(self._reach_upstream())
            if not self.edge.enabled:  # accepted by the kernel before the proxy was disabled
                self.cut()
        elif self._over:  # uvloop does not report the loss of a transport whose dialling was cancelled
            end.abort()
            end.transport = None
            self.lost(end)
        else:
            self._begin()

    def lost(self, end: End) -> None:
        """A socket of this connection is gone: what it had sent still arrives, then the other is closed."""
        if not self._over:
            self._close_after(end.out)
        if self.client.transport is None and self.server.transport is None:
            self._conclude()

    def finished(self, direction: Direction) -> None:
        """The last byte of a direction has passed."""
        if direction.closes_at_end and not self._over:
            self._end(End.close)
        elif self.up.outlet.finished and self.down.outlet.finished:
            self.client.close()
            self.server.close()
        elif direction.source.transport is None:
            direction.dest.close()
        else:
            direction.dest.send_eof()

    def cut(self) -> None:
        """Close both ends now: the proxy is disabled, or gone."""
        if self._over:  # it may still be waiting for somebody who does not read
            self.client.abort()
            self.server.abort()
        self._end(End.abort)

    def strike_down(self, how: Callable[[End], None]) -> None:
        """End this connection by a toxic; while its edge is unreachable nobody can be told, so that comes after it."""
        if self.edge.unreachable:
            self._later = partial(self._end, how)
        else:
            self._end(how)

    def silence(self) -> None:
        """The edge is unreachable now: nothing is read, nothing is written, nothing is lost."""
        self.up.silence()
        self.down.silence()

    def speak(self) -> None:
        """The edge is reachable again."""
        later, self._later = self._later, None
        self.up.speak()
        self.down.speak()
        if later is not None:
            later()

    def add(self, toxic: Toxic) -> None:
        """A toxic was added to the proxy. Before the upstream is reached none acts; then all do."""
        if self._is_through:
            self._direction(toxic).add(toxic)

    def change(self, toxic: Toxic) -> None:
        """A toxic of the proxy was changed."""
        if self._is_through:
            self._direction(toxic).change(toxic)

    def remove(self, toxic: Toxic) -> None:
        """A toxic of the proxy was removed."""
        if self._is_through:
            self._direction(toxic).remove(toxic.name)

    # Toxics of HTTP

    def follow(self) -> None:
        """There are toxics of HTTP on the proxy: requests and answers pass through them, unless this is no HTTP."""
        if self._filter is None and self._tap.requests is not None:
            back = Exit(self.down, self.down.outlet)
            self._filter = HttpFilter(self, self.edge.http, self._tap, self.up, back)
            self._filter.caller_is_full(full=self.down.is_full)
            self.client.tap = None
            self.up.read_by(Entry(self.up, self._filter.requests))
            self.down.end_in(Entry(self.down, self._filter.answers))

    def leave(self) -> None:
        """There is nothing more to be done to requests and answers: they are read along again."""
        self._filter = None
        self.client.tap = self._tap
        self.up.read_by(None)
        self.down.end_in(self.down.outlet)

    def recount(self, fault: Fault) -> None:
        """A toxic of HTTP was changed."""
        if self._filter is not None:
            self._filter.change(fault)

    def forgive(self, fault: Fault) -> None:
        """A toxic of HTTP was removed."""
        if self._filter is not None:
            self._filter.remove(fault)

    def caller_is_full(self, *, full: bool) -> None:
        """Whether the caller takes its answers more slowly than they come."""
        if self._filter is not None:
            self._filter.caller_is_full(full=full)

    @property
    def alarm(self) -> Alarm:
        return self.edge.alarm

    def hold_caller(self) -> None:
        self.up.block(_WAITING)

    def release_caller(self) -> None:
        self.up.unblock(_WAITING)

    def reset(self) -> None:
        self.strike_down(End.reset)

    def cut_short(self) -> None:
        self.strike_down(End.close)

    @property
    def _is_through(self) -> bool:
        return self._early is None and not self._over

    def _direction(self, toxic: Toxic) -> Direction:
        return self.up if toxic.stream == "upstream" else self.down

    def _count_in(self, source: tuple[Any, ...] | None) -> None:
        self.counts = self.edge.counts_for(source[0] if source else "")
        self.client.counts = self.server.counts = self.up.outlet.counts = self.down.outlet.counts = self.counts
        self._tap = self.client.tap = Tap(self.counts)
        self.counts.accepted += 1
        self.counts.open += 1
        if self.edge.http:
            self.follow()

    async def _reach_upstream(self) -> None:
        late = self.edge.loop.call_later(DIAL_WITHIN, self._give_up_dialling)
        try:
            await self._dial_one_of(await self.edge.upstream.addresses())
        except (OSError, ValueError) as reason:  # the latter for a name that can be none
            self._is_unreached(reason)
        finally:
            late.cancel()
            self._dial = None

    async def _dial_one_of(self, addresses: Addresses) -> None:
        for host, port in addresses[:-1]:
            with contextlib.suppress(OSError):
                await self.edge.loop.create_connection(lambda: self.server, host, port)
                return
        await self.edge.loop.create_connection(lambda: self.server, *addresses[-1])

    def _give_up_dialling(self) -> None:
        if self._early is not None:
            self._stop_dialling()
            self._is_unreached(TimeoutError())

    def _is_unreached(self, reason: Exception) -> None:
        self.counts.unreached += 1
        self.edge.unreached(reason)
        self._turn_away()

    def _turn_away(self) -> None:
        """The upstream cannot be reached: a client that has sent something is reset, as its own kernel would do."""
        if self.edge.unreachable:
            self._later = self._turn_away
            return
        self._over = True
        if self._early is not None and self._early.chunks:
            self.client.reset()
        else:
            self.client.abort()

    def _begin(self) -> None:
        early, self._early = self._early, None
        self.up.lead_to(self.up.outlet)
        if self.edge.unreachable:
            self.silence()
            self.edge.loop.call_soon(self.down.keep_silent)  # uvloop reads from a new transport, whatever it was told
        for direction in (self.up, self.down):
            for toxic in self.edge.toxics_of(direction.stream):
                direction.add(toxic)
            direction.is_new = False
        for chunk in early.chunks if early else ():
            self.up.onward(chunk)
        if early is not None and early.finished:
            self.up.finish()
        self.up.unblock(_DIALLING)

    def _close_after(self, direction: Direction) -> None:
        if self._early is not None:
            self._stop_dialling()
            self._over = True
        elif not direction.ended:
            direction.ended = True
            direction.end()
        elif direction.outlet.finished:
            direction.dest.close()

    def _end(self, how: Callable[[End], None]) -> None:
        if self._over:
            return
        self._over = True
        self.counts.cut += 1
        self._stop_dialling()
        self._forget()
        how(self.client)
        how(self.server)

    def _stop_dialling(self) -> None:
        """Once the upstream's socket is there, its dialling ends by itself: cancelled then, its loss would go unreported."""
        if self._dial is not None and self.server.transport is None:
            self._dial.cancel()

    def _conclude(self) -> None:
        if self._concluded:
            return
        self._over = self._concluded = True
        self._forget()
        self.counts.open -= 1
        self.edge.connections.discard(self)

    def _forget(self) -> None:
        """Nothing passes any more, and what was not answered never will be."""
        self.up.drop()
        self.down.drop()
        if self._filter is not None:
            self._filter.drop()
        self._tap.end()
