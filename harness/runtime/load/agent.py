"""Runs inside the load process: Locust by its own command, with our pace, our ledger and our end laid around it.

Started as a program with one argument, the descriptor of the control channel. Over it the harness sends its settings,
then `{"go": t}` and `{"stop": t}`; this process answers `{"ready": users}`, `{"invalid": why}` or `{"failed": why}`.
When the channel closes, whoever started the load is gone, and the load ends at once.

The only module that imports Locust, which patches the interpreter that it is imported into. What it uses of Locust's
inside is checked by name at the start, so that a release which renames it is refused, not half obeyed.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, NoReturn

sys.path.append(str(Path(__file__).resolve().parents[3]))

try:
    import gevent
    import gevent.event
    import locust
    import locust.argument_parser
    import locust.clients
    import locust.contrib.fasthttp
    import locust.main
    from gevent.lock import Semaphore
    from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
except ImportError as error:  # told to the harness in main: there is no other way to say it
    MISSING: ImportError | None = error
else:
    MISSING = None
    MACHINERY = str(Path(locust.__file__).parent)

from harness.model.rates import course_of
from harness.runtime.load.arrivals import arrival_offsets
from harness.runtime.load.channel import Channel, Wire
from harness.runtime.load.clients import (
    CONTEXT_KEY,
    DEADLINE_GRACE,
    FAST,
    PLAIN,
    TURN,
    Watch,
    limit_fast_client,
    limit_plain_client,
    watch_client,
)
from harness.runtime.load.groups import Groups
from harness.runtime.load.ledger import Exchange, Ledger, appending_to, hiding, now
from harness.runtime.load.marks import Marks
from harness.runtime.load.pace import Pace, Turn, sleep_until
from harness.runtime.load.targets import Targets, looked_up
from harness.runtime.load.userfile import Refused, follow, imported, own_traceback

EXIT_INVALID = 2
EXIT_FAILED = 5
EXIT_ALONE = 3
BACKSTOP_SECONDS = 120
BROKEN_AFTER = 10
"""So many tasks that raised, and not one that sent a request: the locustfile is broken, and not what it talks to."""

RAISED_TOLD = 20
"""How many exceptions raised by tasks are told with their traceback; the rest is counted."""


class Agent:
    """One load, from Locust's start to its end."""

    def __init__(self, channel: Channel, settings: dict[str, Any]) -> None:
        self.channel = channel
        self.settings = settings
        self.wire = Wire(channel, gevent.spawn_later)
        write = appending_to(Path(settings["records"])) if settings["records"] else self.wire.write
        hide = hiding(frozenset(settings["secrets"]))
        self.ledger = Ledger(write, Marks(settings["marks"]), self._cannot_write, hide)
        self.seed = settings["seed"] + (settings["number"] << 32)  # each process draws differently, and has ids of its own
        self.pace = Pace(offsets_of(settings), self.seed, StopUser)
        self.watch = Watch(self.ledger, self.pace, self.seed, settings["timeout"], StopUser)
        self.ledger.accepted, self.watch.groups = settings["accepted"], Groups(settings["journeys"])
        self.targets, self.told_kept_back = Targets(settings["entry"], settings["allow_hosts"], looked_up_aside), set[str]()
        self.served = 0
        self.raised = 0
        self.last_raised: BaseException | None = None
        self.environment: Any = None
        self.begun = gevent.event.Event()
        self.over = False

    def install(self) -> None:
        """Lay everything around Locust, before the user's file is imported."""
        require_known_locust()
        self.targets.guard()
        gevent.spawn(self.targets.look_up)  # nobody may answer for a name, for longer than a start may take
        watch_client(locust.clients.HttpSession, PLAIN, self.watch)
        watch_client(locust.contrib.fasthttp.FastHttpSession, FAST, self.watch)
        limit = self.settings["timeout"]
        limit_plain_client(locust.clients.HttpSession, locust.clients.ResponseContextManager, limit)
        limit_fast_client(locust.contrib.fasthttp.FastHttpSession, locust.contrib.fasthttp.LocustUserAgent, limit)
        self._pace_tasks(locust.TaskSet)
        events: Any = locust.events
        events.request.add_listener(self._on_request)
        events.user_error.add_listener(self._on_user_error)
        events.init.add_listener(self._on_init)
        if not self.settings["shape"]:
            events.spawning_complete.add_listener(lambda **_: gevent.spawn(self._tell_when_ready))
        for hook in (events.init, events.test_start, events.spawning_complete):
            hook.fire = partial(self._fire, hook)
        events.quitting.add_listener(lambda **_: self._end_of_locust())

    def _pace_tasks(self, task_set: Any) -> None:
        """Each task that is no set of tasks waits for its turn; the waits between tasks go, those within stay."""
        execute, wait = task_set.execute_next_task, task_set.wait

        def execute_next_task(tasks: Any) -> None:
            following = tasks._task_queue[0]
            if isinstance(following, type) and issubclass(following, task_set):
                execute(tasks)
                return
            turn = self._begin_turn(tasks.user)
            try:
                execute(tasks)
            except BaseException as error:
                self._end_turn(turn, error)
                raise
            self._end_turn(turn, None)

        def wait_between_tasks(tasks: Any) -> None:
            turn: Turn | None = getattr(tasks.user, TURN, None)
            if not self.pace.is_open or (turn is not None and turn.running):
                wait(tasks)

        task_set.execute_next_task, task_set.wait = execute_next_task, wait_between_tasks

    def _fire(self, hook: Any, *, reverse: bool = False, **told: Any) -> None:
        """Tell the listeners of an event; Locust would log what one of the user's raises, and go on without it."""
        for listener in list(reversed(hook._handlers) if reverse else hook._handlers):
            try:
                listener(**told)
            except Exception as error:
                if is_control_flow(error):
                    raise
                self.fail(self._broken("a listener", error))

    def _broken(self, what: str, error: BaseException) -> str:
        path = self.settings["locustfile"]
        return f"{path}: {what} broke while the load ran:\n{own_traceback(error, path, MACHINERY)}"

    def _begin_turn(self, user: Any) -> Turn:
        turn = self.pace.next_turn(getattr(user, TURN, None))
        setattr(user, TURN, turn)
        setattr(gevent.getcurrent(), TURN, turn)
        return turn

    def _end_turn(self, turn: Turn, error: BaseException | None) -> None:
        turn.running = False
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self.fail(self._broken("a task", error))
        told = error if isinstance(error, Exception) and not is_control_flow(error) else None
        turn.failed = told is not None
        for exchange in turn.exchanges:
            self.ledger.settle(exchange, told)
        turn.exchanges.clear()
        self.served += turn.requested

    def _on_request(self, *, request_type: Any, name: Any, context: Any = None, **told: Any) -> None:
        try:
            exchange = context.pop(CONTEXT_KEY, None) if isinstance(context, dict) else None
            if exchange is None:
                exchange = self._entered_late(f"{request_type} {name}", told)
            wrong, size = told.get("exception"), int(told.get("response_length") or 0)
            if wrong is not None and not isinstance(wrong, BaseException):
                wrong = RuntimeError(str(wrong))
            self.ledger.reported(exchange, f"{request_type} {name}", told.get("response"), size, wrong)
        except Exception:  # Locust would log it and go on unrecorded
            self.fail(f"a request could not be recorded:\n{traceback.format_exc()}")

    def _entered_late(self, journey: str, told: dict[str, Any]) -> Exchange:
        """A client of the user's own tells of a request only when it is over."""
        end = now()
        start = end - float(told.get("response_time") or 0) / 1000
        turn: Turn | None = getattr(gevent.getcurrent(), TURN, None)
        due = turn.take_due(start) if turn is not None and turn.running else start
        exchange = Exchange(lambda: journey, due, start, end=end)
        self.ledger.enter(exchange)
        return exchange

    def _on_user_error(self, user_instance: Any, exception: BaseException, **_: Any) -> None:
        self.raised += 1
        if is_control_flow(exception):
            return
        self.last_raised = exception
        if self.raised <= RAISED_TOLD:
            text = own_traceback(exception, self.settings["locustfile"], MACHINERY)
            self.ledger.note("raised", user=type(user_instance).__name__, error=text)
        if self.pace.has_begun and self.raised >= BROKEN_AFTER and not self.served and not self.ledger.open:
            self.fail(self._broken("a user", exception))

    def _on_init(self, environment: Any, **_: Any) -> None:
        self.environment = environment
        gevent.spawn(self._obey)
        if self.settings["shape"]:
            self.channel.tell(ready=0)

    def _with_last_raised(self, reason: str) -> str:
        return f"{reason}\n{self._broken('a user', self.last_raised)}" if self.last_raised is not None else reason

    def _tell_when_ready(self) -> None:
        """Ready is when every user that lives waits for its turn."""
        while self.pace.idle < self.environment.runner.user_count:
            gevent.sleep(0.005)
        users = self.environment.runner.user_count
        if not users:
            self.fail(self._with_last_raised("no user lived to see the load begin: each ended while it got ready"))
        self.channel.tell(ready=users)

    def _obey(self) -> None:
        while (message := self.channel.heard()) is not None:
            if "go" in message:
                self._go(float(message["go"]))
            if "stop" in message:
                gevent.spawn(self._stop, float(message["stop"]))
        self._break_off("whoever started the load is gone")
        os._exit(EXIT_ALONE)

    def _go(self, at: float) -> None:
        facts = {key: self.settings[key] for key in ("rate", "stages", "arrivals", "seed", "timeout")}
        users = self.environment.runner.user_count
        if "clock" in self.settings:
            self.ledger.note("clock", **self.settings["clock"])
        self.ledger.note("began", begin=at, pid=os.getpid(), users=users, locust=locust.__version__, **facts)
        self.pace.go(at)
        self.begun.set()
        gevent.spawn(self._tell_vitals)

    def _await_begin(self) -> None:
        self.begun.wait()
        sleep_until(self.pace.begin)

    def _shape_ended(self, name: str) -> NoReturn:
        after = f"after {now() - self.pace.begin:.1f} s"
        self.fail(f"the load shape {name} ended {after}, and the phases go on: let it go on, or shorten them")

    def _tell_vitals(self) -> None:
        cpu, since = time.process_time(), now()
        while True:
            gevent.sleep(1.0)
            if self.pace.ending:
                return
            if not self.environment.runner.user_count and not self.settings["shape"]:
                self.fail(self._with_last_raised("every user has ended, before the load was told to"))
            self._tell_kept_back()
            spent, at = time.process_time(), now()
            share = round((spent - cpu) / (at - since), 4)
            cpu, since = spent, at
            self.ledger.note("vitals", cpu=share, lag=round(self.pace.worst_lag(), 6), idle_users=self.pace.idle)

    def _tell_kept_back(self) -> None:
        """Note each host that the load asked for and may not, once."""
        for host in sorted(self.targets.kept_back - self.told_kept_back):
            self.told_kept_back.add(host)
            self.ledger.note("kept back", host=host)

    def _stop(self, at: float) -> None:
        """End in good order: nothing new, then what is open, then the users, then Locust."""
        self._end_arrivals(at)
        patience = now() + self.settings["timeout"] + 2 * DEADLINE_GRACE
        gevent.sleep(0.005)  # whoever was given an arrival just now sends it first
        while self.ledger.open and now() < patience:
            gevent.sleep(0.01)
        self.ledger.finish_open()
        self.environment.runner.stop()
        self._finish()
        self.environment.runner.quit()

    def _end_arrivals(self, at: float) -> None:
        for due in self.pace.end(at):
            self.ledger.drop(due)

    def _finish(self) -> None:
        self.over = True
        self.ledger.finish_open()
        self._tell_kept_back()
        counts = self.ledger.counts
        scheduled = self.pace.scheduled if self.pace.is_open else self.served
        silent = max(0, scheduled - self.served - counts["dropped"])
        self.ledger.note("finished", scheduled=scheduled, sent=self.served, silent=silent, raised=self.raised, **counts)
        self.wire.flush()

    def _end_of_locust(self) -> None:
        if not self.over:
            self._break_off("Locust ended by itself, before it was told to")

    def _break_off(self, reason: str) -> None:
        """The load ends without having been told to: that is said, after what was open."""
        self.over = True
        self._end_arrivals(now())
        self.ledger.finish_open()
        self._tell_kept_back()
        self.ledger.note("failed", error=reason)
        self.wire.flush()
        self.channel.tell(failed=reason)
        sys.stderr.write(reason + "\n")
        sys.stderr.flush()

    def _cannot_write(self, reason: str) -> None:
        self.channel.tell(failed=reason)

    def fail(self, reason: str) -> NoReturn:
        """Say why the load cannot go on, and end."""
        self._break_off(reason)
        os._exit(EXIT_FAILED)

    def load_locustfile(self, load: Any, paths: list[str]) -> Any:
        """Import the user's file, or end with what is wrong with it."""
        try:
            found = imported(lambda: load(paths), self.settings, MACHINERY)
        except Refused as refused:
            self._refuse(str(refused))
        if self.settings["shape"]:
            follow(found[3], self.settings, self._await_begin, self._shape_ended)
        return found

    def _refuse(self, reason: str) -> NoReturn:
        self.channel.tell(invalid=reason)
        sys.stderr.write(reason + "\n")
        sys.stderr.flush()
        os._exit(EXIT_INVALID)

    def run_locust(self) -> None:
        """Locust's own command, which reads no configuration but what is given here."""
        settings, users = self.settings, str(self.settings["users"] or 1)
        command: Any = locust.main
        parser: Any = locust.argument_parser.LocustArgumentParser
        load, construct = command.merge_locustfiles_content, parser.__init__
        command.merge_locustfiles_content = lambda paths: self.load_locustfile(load, paths)
        command.load_locustfile_pytest = lambda _path: {}
        parser.__init__ = lambda made, *args, **kwargs: construct(made, *args, **{**kwargs, "default_config_files": []})
        backstop = int(settings["seconds"] + 2 * settings["timeout"] + BACKSTOP_SECONDS)
        sys.argv = ["locust", "-f", settings["locustfile"], "--headless", "--only-summary", "--loglevel", "INFO"]
        sys.argv += ["--users", users, "--spawn-rate", users, "--run-time", f"{backstop}s", "--exit-code-on-error", "0"]
        if settings["shape"]:
            sys.argv += ["--stop-timeout", str(ceil(settings["timeout"]))]  # users that it takes away end their requests first
        sys.argv += ["--host", settings["entry"]]
        random.seed(self.seed)
        command.main()


def offsets_of(settings: dict[str, Any]) -> Iterator[float] | None:
    """The schedule of the open model, or what of it falls to this process; None in the closed model."""
    if settings["rate"] is None:
        return None
    offsets = arrival_offsets(course_of(settings["rate"], settings["stages"]), settings["arrivals"], settings["seed"])
    return islice(offsets, settings["number"], None, settings["processes"])


def require_known_locust() -> None:
    """Every name of Locust's inside that is used here; one that is gone is a Locust that was not tried."""
    task_set, fast = locust.TaskSet, locust.contrib.fasthttp
    used: tuple[tuple[Any, str], ...] = (
        (task_set, "execute_next_task"),
        (task_set, "wait"),
        (locust.clients.HttpSession, "_send_request_safe_mode"),
        (locust.clients.HttpSession, "_build_url"),
        (fast.FastHttpSession, "request"),
        (fast.LocustUserAgent, "_handle_error"),
        (locust.events.init, "_handlers"),
        (locust.main, "merge_locustfiles_content"),
        (locust.main, "load_locustfile_pytest"),
        (locust.argument_parser, "LocustArgumentParser"),
    )
    gone = [f"{getattr(owner, '__name__', owner)}.{name}" for owner, name in used if not hasattr(owner, name)]
    if gone:
        raise RuntimeError(f"Locust {locust.__version__} is not supported: it has no {', '.join(gone)}")


def is_control_flow(error: BaseException) -> bool:
    """Whether an exception only tells Locust what to do next."""
    return isinstance(error, InterruptTaskSet | RescheduleTask | RescheduleTaskImmediately | StopUser | StopTest)


def main() -> None:
    """A load process of the machine that the run is on."""
    channel = channel_on(socket.socket(fileno=int(sys.argv[1])))
    settings = channel.heard()
    if settings is None:
        sys.exit(EXIT_ALONE)
    serve(channel, settings)


def channel_on(connection: socket.socket) -> Channel:
    """The channel on a connection; without Locust, which brings the lock for it, there is one to tell just that."""
    return Channel(connection, Semaphore() if MISSING is None else nullcontext())


def looked_up_aside(name: str) -> set[str]:
    """The addresses of a name, found on another thread: however long nobody answers, the users have their turns."""
    hub = gevent.get_hub()
    found: set[str] = looked_up(name) if gevent.getcurrent() is hub else hub.threadpool.apply(looked_up, (name,))
    return found


def serve(channel: Channel, settings: dict[str, Any]) -> None:
    """Carry out one load."""
    if MISSING is not None:
        channel.tell(failed=f"Locust cannot be imported ({MISSING}); install it beside the harness: pip install locust")
        sys.exit(EXIT_FAILED)
    if settings["ends_with_parent"]:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    try:
        agent = Agent(channel, settings)
        agent.install()
    except Exception as error:  # said to the harness in full
        channel.tell(failed=f"{error}")
        raise
    agent.run_locust()


if __name__ == "__main__":
    main()
