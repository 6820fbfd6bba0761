"""A service that is awkward to take down: one is deaf to SIGTERM, one has a process in a session of its own, as databases do.

python service.py HOST PORT
"""

import http.client
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ASKED = {"/with-back": os.environ.get("BACK_URL", ""), "/with-aside": os.environ.get("ASIDE_URL", "")}
"""Which page needs which other service."""


def answers(url: str) -> bool:
    """Whether a service answers within half a second."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=0.5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read() == b"ok"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Pages(BaseHTTPRequestHandler):
    """Every page is small; some of them need another service."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        is_well = self.path not in ASKED or answers(ASKED[self.path])
        body = b"ok" if is_well else b"no"
        self.send_response(200 if is_well else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is told of requests."""


if __name__ == "__main__":
    if os.environ.get("IS_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("HAS_A_SESSION_BESIDE"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Pages).serve_forever()
