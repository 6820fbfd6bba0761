"""A service of the tiny system: `front` asks `back` for one of its two pages, and has a fallback when it gets no answer.

python service.py HOST PORT [fails-at-boot]
"""

import http.client
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BACK = os.environ.get("BACK_URL", "")
FALLS_BACK = os.environ.get("FALLS_BACK", "yes") == "yes"
local = threading.local()


class Count:
    """How often the fallback fired."""

    fallbacks = 0


def ask_back() -> bool:
    """One question to the other service, on a connection that is kept; one that has died meanwhile is replaced once."""
    for _ in range(2):
        kept = getattr(local, "connection", None)
        if kept is None:
            where = urlsplit(BACK)
            local.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=1)
        try:
            local.connection.request("GET", "/")
            return local.connection.getresponse().read() == b"ok"
        except (OSError, http.client.HTTPException):
            local.connection.close()
            local.connection = None
            if kept is None:
                return False
    return False


class Pages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:

        if self.path == "/metrics":
            return self.reply(200, f'fallback_total{{name="without-back"}} {Count.fallbacks}\n'.encode())
        if self.path != "/with-back" or ask_back():
            return self.reply(200, b"ok")
        if not FALLS_BACK:
            return self.reply(503, b"no")
        Count.fallbacks += 1
        return self.reply(200, b"ok", "without-back")

    def reply(self, status: int, body: bytes, fallback: str = "") -> None:
        self.send_response(status)
        if fallback:
            self.send_header("X-Fallback", fallback)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    if "fails-at-boot" in sys.argv:
        sys.exit("the last words of a service that fails at boot")
    ThreadingHTTPServer.request_queue_size = 256
    ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Pages).serve_forever()
