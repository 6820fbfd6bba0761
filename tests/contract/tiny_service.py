"""A service with one behaviour: `tiny_service.py BEHAVIOUR HOST PORT`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

BORN = f"{time.time_ns()}"
"""Tells one start of this service from another, also where every process has the number 1."""


HELD: list[bytes] = []


def start_child() -> str:
    """A process in a session of its own; its number."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    return f"{child.pid}"


class Answers(BaseHTTPRequestHandler):
    """200 to /ready, unless it is never ready; /crash and /leave end it, /environment tells a variable, /born which start it is.

    /burn keeps a processor busy for a while, /hold/N keeps N MB of memory, /pid tells its number, /child starts a process.
    """

    def do_GET(self) -> None:
        if self.path == "/crash":
            sys.stderr.write("somebody asked me to crash\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.path == "/leave":
            sys.stderr.write("somebody asked me to leave\n")
            os._exit(3)
        if self.path == "/burn":
            until = time.monotonic() + 0.7
            while time.monotonic() < until:
                pass
        if self.path.startswith("/hold/"):
            HELD.append(b"x" * (int(self.path.removeprefix("/hold/")) * 1024**2))
        ready = sys.argv[1] != "never-ready"
        self.send_response(200 if ready else 503)
        self.end_headers()
        name = self.path.removeprefix("/environment/")
        told = {"/born": lambda: BORN, "/pid": lambda: f"{os.getpid()}", "/child": start_child}
        self.wfile.write(told.get(self.path, lambda: os.environ.get(name, ""))().encode())

    def log_message(self, *_: object) -> None:
        """Nothing is told of requests."""


def main() -> None:
    behaviour, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.stderr.write(f"tiny service: {behaviour}\n")
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour == "parent":
        sys.stderr.write(f"{start_child()}\n")
    if behaviour == "exits":
        sys.exit("expected SETTINGS in my environment, found none")
    if behaviour == "late":
        time.sleep(0.4)
    with HTTPServer((host, port), Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
