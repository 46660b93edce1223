"""A server that speaks enough of S3 for single objects, and heeds conditions only if told to."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Store(ThreadingHTTPServer):
    """Objects by path; `heeds_conditions` as a real store does."""

    def __init__(self, *, heeds_conditions: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heeds_conditions = heeds_conditions
        self.objects: dict[str, bytes] = {}
        # What was written, and what was asked for, in this order.
        self.names: list[str] = []
        self.asked: list[str] = []
        # How far its clock is behind.
        self.behind = timedelta()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            there = self.path in self.server.objects
            if self.server.heeds_conditions and there and self.headers["If-None-Match"] == "*":
                return self._answer(412)
            self.server.objects[self.path] = content
            self.server.names.append(self.path)
        return self._answer(200)

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.objects.get(self.path)
        self._answer(404 if content is None else 200, content or b"")

    def do_POST(self) -> None:
        """Delete several objects of a bucket."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = re.findall(r"<Key>(.*?)</Key>", body)
        for key in keys:
            self.server.objects.pop(f"{self.path.partition('?')[0]}/{key}", None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"0"')
        self.send_header(
            "Last-Modified", format_datetime(datetime.now(UTC) - self.server.behind, usegmt=True)
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def careless_store(*, heeds_conditions: bool = False) -> Iterator[Store]:
    """Run such a server on a free port."""
    with Store(heeds_conditions=heeds_conditions) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
