"""A local web server with scripted answers: correct, partial, wrong or stalled."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """One response. Sends only `sent` bytes of the body (None: all) and no empty headers.

    If it `stalls`, it then keeps the connection open and sends the rest after `Server.resumed`.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    stalls: bool = False


class Server(ThreadingHTTPServer):
    """Serves the answers for a path in order, and repeats the last one.

    `requests` are the requested paths, `headers` those of the last request. `stalled` is set as
    soon as an answer stalls; stalled answers continue when `resumed` is set.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Sequence[Answer]] = {}
        self.requests: list[str] = []
        self.headers: Mapping[str, str] = {}
        self.stalled, self.resumed = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def next_answer(self, path: str) -> Answer:
        answers = self.answers.get(path, [Answer(status=404)])
        answer = answers[min(self.requests.count(path), len(answers) - 1)]
        self.requests.append(path)
        return answer


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.headers = dict(self.headers)
        answer = self.server.next_answer(self.path)
        self.send_response(answer.status)
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        # A client that has read enough hangs up.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(answer.body[: answer.sent])
            self.wfile.flush()
            if answer.stalls:
                self.server.stalled.set()
                self.server.resumed.wait()
                self.wfile.write(answer.body[answer.sent :])

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Run a server for the duration of a block."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.resumed.set()
            server.shutdown()
            thread.join()
