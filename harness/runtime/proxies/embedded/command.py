"""The engine's command line: Toxiproxy's options, with one dash or two, and its own."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from harness import __version__
from harness.runtime.proxies.embedded.config import COULD_NOT_RUN, INVALID, CannotStart, read_config
from harness.runtime.proxies.embedded.door import read_token
from harness.runtime.proxies.embedded.healthy import is_healthy, who_answers
from harness.runtime.proxies.embedded.log import LEVELS, Lines, Log, as_json, as_text
from harness.runtime.proxies.embedded.sources import Sources

NOT_HEALTHY = 1

_DESCRIPTION = """Toxiproxy's API and toxics, and evidence of what passed. It ends by itself on Ctrl-C or SIGTERM.

Toxiproxy's own options are taken with one dash too, so that its command lines work as they are."""


def main(arguments: Sequence[str] | None = None, program: str = "python -m harness.runtime.proxies.embedded") -> int:
    """Serve until told to end; the exit code."""
    given = _parser(program).parse_args(arguments)
    try:
        if given.check is not None:
            return _check(given)
        _serve(given)
    except CannotStart as why:
        sys.stderr.writelines(f"{program}: {reason}\n" for reason in why.reasons)
        return why.code
    except KeyboardInterrupt:  # before it could listen for it
        pass
    return 0


def _serve(given: argparse.Namespace) -> None:
    import uvloop

    from harness.runtime.proxies.embedded.refusals import AllPackets, LoopbackPackets, Packets
    from harness.runtime.proxies.embedded.server import Options, serve

    packets = (AllPackets() if given.any_interface else LoopbackPackets()) if given.packet_socket else Packets()
    config = read_config(Path(given.config)) if given.config else ()
    token = read_token(Path(given.token_file)) if given.token_file else ""
    options = Options(
        control=_control_socket(given),
        parent_fd=given.parent_fd,
        ignored=Sources(given.ignore_source),
        any_address=given.allow_any_address,
        packets=packets,
        seed=given.seed,
        config=config,
        runtime_metrics=given.runtime_metrics,
        token=token,
        log=_log(given),
    )
    try:
        uvloop.run(serve(options))
    finally:
        options.log.close()


def _check(given: argparse.Namespace) -> int:
    host, port = given.check or (given.host, given.port)
    if is_healthy(host, port):
        return 0
    raise CannotStart(NOT_HEALTHY, f"no embedded engine answers at {host}:{port}")


def _log(given: argparse.Namespace) -> Log:
    form = {"json": as_json, "text": as_text}.get(given.log_format) or (as_text if sys.stdout.isatty() else as_json)
    return Log("debug" if given.verbose else given.log_level, form, Lines(sys.stdout.fileno()))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_toxiproxys(parser.add_argument_group("as Toxiproxy has them"))
    _add_own(parser.add_argument_group("its own"))
    _add_started_by(parser.add_argument_group("for programs that start it"))
    return parser


def _add_toxiproxys(group: argparse._ArgumentGroup) -> None:
    def add(name: str, **more: object) -> None:
        group.add_argument(f"--{name}", f"-{name}", **more)  # type: ignore[arg-type]  # each is as argparse takes it

    add("host", default="127.0.0.1", help="where the control API listens (127.0.0.1)")
    add("port", type=_port, default=8474, help="on which port (8474)")
    add("config", metavar="FILE", help="make these proxies first: a JSON array of name, listen, upstream, enabled and toxics")
    add("seed", type=int, metavar="N", help="make toxicity and jitter repeatable")
    switch = {"type": _switch, "nargs": "?", "const": True, "default": False, "metavar": "true|false"}
    add("runtime-metrics", **switch, help="tell at /metrics what the process itself uses too")
    add("proxy-metrics", **switch, help="taken and without effect: the metrics of the proxies are always told")
    version = f"{__version__}, embedded proxy engine of Chaos Harness"
    add("version", action="version", version=version, help="print the version and end")


def _add_own(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--allow-any-address", action="store_true", help="listen outside loopback too; without it that is refused")
    add("--any-interface", action="store_true", help="count refused attempts that come in outside loopback too")
    add(
        "--token-file",
        metavar="FILE",
        help="whoever changes something needs the token in this file: Authorization: Bearer TOKEN",
    )
    add("--no-packet-socket", dest="packet_socket", action="store_false", help="do not count refused attempts")
    add(
        "--ignore-source",
        metavar="HOST",
        type=ipaddress.IPv4Network,
        action="append",
        default=[],
        help="do not count connections from this address or network; may be said several times",
    )
    add("-v", "--verbose", action="store_true", help="tell of single requests and connections too: --log-level debug")
    add(
        "--log-level",
        type=_level,
        metavar="LEVEL",
        default=os.environ.get("LOG_LEVEL") or "info",
        help=f"the variable LOG_LEVEL, else info; one of {' '.join(LEVELS)}",
    )
    add("--log-format", choices=("auto", "text", "json"), default="auto", help="auto: text on a terminal, JSON elsewhere")
    add(
        "--check",
        metavar="HOST:PORT",
        nargs="?",
        type=_address,
        const=(),
        help="do not serve: end with 0 where an engine answers (at --host and --port where nothing is said), else with 1",
    )


def _add_started_by(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--control-fd", type=int, metavar="N", help="a listening socket that was inherited, in place of --host and --port")
    add("--parent-fd", type=int, metavar="N", help="heal and end when this inherited pipe is closed at its other end")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, found {text!r}")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, found {text!r}")
    return host.removeprefix("[").removesuffix("]"), _port(port)


def _level(text: str) -> str:
    level = text.lower()
    if level not in LEVELS:
        raise argparse.ArgumentTypeError(f"expected (also in LOG_LEVEL) one of {', '.join(LEVELS)}, found {text!r}")
    return level


def _switch(text: str) -> bool:
    """As Go reads them, for `-proxy-metrics=true`."""
    if text.lower() not in ("true", "false", "t", "f", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return text.lower() in ("true", "t", "1")


def _control_socket(given: argparse.Namespace) -> socket.socket:
    inherited = given.control_fd is not None
    try:
        control = socket.socket(fileno=given.control_fd) if inherited else _bound(given.host, given.port)
        if given.parent_fd is not None:
            os.fstat(given.parent_fd)
    except OSError as error:
        told = f"expected descriptors that were inherited, found {error.strerror}"
        raise CannotStart(INVALID, f"--control-fd, --parent-fd: {told}") from error
    host = control.getsockname()[0]
    if not given.allow_any_address and not ipaddress.ip_address(host).is_loopback:
        raise CannotStart(INVALID, f"control API: expected a loopback address, found {host}; --allow-any-address lifts this")
    control.setblocking(False)
    return control


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        _explain(host, port, error)


def _explain(host: str, port: int, error: OSError | UnicodeError) -> NoReturn:
    """Why nobody can listen there: most often because an engine does already."""
    found = str(getattr(error, "strerror", None) or error).partition(" (while ")[0].lower()
    if getattr(error, "errno", 0) == errno.EADDRINUSE and (there := who_answers(host, port)):
        found = f"{there} answers there already"
    told = f"control API: cannot listen on {host}:{port}: {found}; name another place with --host or --port"
    raise CannotStart(COULD_NOT_RUN, told) from error
