"""A service with one behaviour: `tiny_service.py BEHAVIOUR HOST PORT`."""

from __future__ import annotations

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Answers(BaseHTTPRequestHandler):
    """200 to /ready, unless it is never ready; /crash ends it, /environment tells a variable."""

    def do_GET(self) -> None:
        if self.path == "/crash":
            sys.stderr.write("somebody asked me to crash\n")
            os.kill(os.getpid(), signal.SIGKILL)
        ready = sys.argv[1] != "never-ready"
        self.send_response(200 if ready else 503)
        self.end_headers()
        name = self.path.removeprefix("/environment/")
        self.wfile.write(os.environ.get(name, "").encode())

    def log_message(self, *_: object) -> None:
        """Nothing is told of requests."""


def main() -> None:
    behaviour, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.stderr.write(f"tiny service: {behaviour}\n")
    if behaviour == "exits":
        sys.exit("expected SETTINGS in my environment, found none")
    if behaviour == "late":
        time.sleep(0.4)
    with HTTPServer((host, port), Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
