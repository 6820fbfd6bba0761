"""`python -m harness.runtime.proxies.embedded`: the embedded proxy engine as a process of its own."""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from pathlib import Path

import uvloop

from harness.runtime.proxies.embedded.refusals import AllPackets, LoopbackPackets, Packets
from harness.runtime.proxies.embedded.server import Options, serve
from harness.runtime.proxies.embedded.sources import Sources


def main() -> None:
    """Serve the control API until told to end."""
    given = _parser().parse_args()
    try:
        control = _control_socket(given)
    except OSError as error:
        sys.exit(f"control API: cannot listen on {given.host}:{given.port} ({error.strerror}); name another one with --port")
    uvloop.run(
        serve(
            Options(
                control=control,
                parent_fd=given.parent_fd,
                ignored=Sources(given.ignore_source),
                any_address=given.allow_any_address,
                packets=_packets(given),
                seed=given.seed,
                proxies=_config(given.config) if given.config else b"[]",
            )
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.runtime.proxies.embedded", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="where the control API listens (127.0.0.1)")
    add("--port", type=int, default=8474, help="on which port (8474)")
    add("--control-fd", type=int, help="a listening socket that was inherited, in place of --host and --port")
    add("--parent-fd", type=int, help="heal and end when this inherited pipe is closed at its other end")
    add("--config", metavar="FILE", help="make these proxies first: a JSON array of name, listen, upstream and enabled")
    add(
        "--ignore-source",
        metavar="HOST",
        type=ipaddress.IPv4Network,
        action="append",
        default=[],
        help="do not count connections from this address or network; may be said several times",
    )
    add("--allow-any-address", action="store_true", help="listen outside loopback too")
    add("--any-interface", action="store_true", help="count refused attempts that come in outside loopback too")
    add("--no-packet-socket", dest="packet_socket", action="store_false", help="do not count refused attempts")
    add("--seed", type=int, help="make toxicity and jitter repeatable")
    return parser


def _packets(given: argparse.Namespace) -> Packets:
    if not given.packet_socket:
        return Packets()
    return AllPackets() if given.any_interface else LoopbackPackets()


def _config(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        sys.exit(f"--config: {path} cannot be read ({error.strerror})")


def _control_socket(given: argparse.Namespace) -> socket.socket:
    if given.control_fd is not None:
        control = socket.socket(fileno=given.control_fd)
    else:
        control = socket.create_server((given.host, given.port), backlog=128)
    host = control.getsockname()[0]
    if not given.allow_any_address and not ipaddress.ip_address(host).is_loopback:
        sys.exit(f"control API: expected a loopback address, found {host}; --allow-any-address lifts this")
    control.setblocking(False)
    return control


if __name__ == "__main__":
    main()
