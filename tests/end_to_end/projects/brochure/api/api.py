import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICES = dict(pair.split("=") for pair in os.environ["PRICES"].split(","))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"status": "up"})
        elif self.path == "/prices":
            self.answer(
                200, {"site": os.environ["SITE_NAME"], "scheme": self.headers.get("X-Forwarded-Proto"), "prices": PRICES}
            )
        else:
            self.answer(404, {"error": "no such thing"})

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if said.get("what") in PRICES:
            self.answer(202, {"wanted": said["what"], "at": PRICES[said["what"]]})
        else:
            self.answer(422, {"error": "we do not sell that"})

    def log_message(self, *args):
        pass


ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
