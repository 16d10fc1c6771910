"""A small HTTP process with the failpoint `toy.before_answer`: /work passes it, /lab/failpoints arms it."""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

armed: dict[str, int] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/work" and "toy.before_answer" in armed:
            armed["toy.before_answer"] -= 1
            if not armed["toy.before_answer"]:
                os.kill(os.getpid(), signal.SIGKILL)
        self.answer(200)

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.rpartition("/")[2]
        if name != "toy.before_answer":
            return self.answer(404)
        armed[name] = body["nth"]
        return self.answer(200)

    def do_DELETE(self) -> None:
        armed.pop(self.path.rpartition("/")[2], None)
        self.answer(200)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
