"""The model server, within a test or as processes of its own."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from starlette.testclient import TestClient

from digits.server.app import create_app
from digits.server.options import ServerOptions
from digits.settings import Settings
from tests.support.small_dataset import NAME

PATIENCE = 60
INFER = f"/v2/models/{NAME}/infer"


@contextlib.contextmanager
def served(settings: Settings, **options: Any) -> Iterator[TestClient]:
    """Serve the small dataset in this process, without an access log."""
    chosen = {"datasets": (NAME,), "has_access_log": False, **options}
    app = create_app(ServerOptions(settings=settings, **chosen))
    with TestClient(app, "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def drawing(height: int = 60, width: int = 60) -> npt.NDArray[np.uint8]:
    """Return a black stroke on white, uint8 (height, width)."""
    picture = np.full((height, width), 255, np.uint8)
    picture[height // 5 : 4 * height // 5, 9 * width // 20 : 11 * width // 20] = 0
    return picture


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    return content.getvalue()


class ModelServer:
    """`digits serve` in processes of its own, on a free port."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *options: str,
        dataset: str = NAME,
        **environment: str,
    ) -> None:
        self.log = folder / "server.log"
        self.output = folder / "access.log"
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith("DIGITS_")
        }
        folders = {
            "DIGITS_DATA_DIR": str(settings.data_dir),
            "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        }
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("digits")),
                    *("serve", "--dataset", dataset, "--port", "0", *options),
                ],
                env=inherited | folders | environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )
        self.port = self._listening_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    @property
    def workers(self) -> list[int]:
        """The pids of the processes that answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        found = [int(pid) for pid in children.split()]
        # multiprocessing starts another process, which only tracks resources.
        return [pid for pid in found if b"spawn_main" in _command(pid)]

    def await_ready(self) -> None:
        """Wait until requests can be sent."""
        self.wait_for(lambda: self.http.get("/v2/health/ready").status_code == 200)

    def await_version(self, number: int) -> None:
        """Wait until a version is in service."""
        path = f"/v2/models/{NAME}"
        self.wait_for(lambda: self.http.get(path).headers["x-model-version"] == str(number))

    def wait_for(self, holds: Any) -> None:
        """Wait until something holds; the server may be away meanwhile."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError, KeyError):
                if holds():
                    return
            time.sleep(0.05)
        raise AssertionError(f"still waiting after {PATIENCE} s:\n{self.log.read_text()}")

    def samples(self, name: str) -> list[float]:
        """Return a metric's samples whose names and labels begin like this."""
        text = self.http.get("/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return [float(line.rpartition(" ")[2]) for line in lines]

    def metric(self, name: str) -> float:
        """Return the sum of these samples."""
        return sum(self.samples(name))

    def access_lines(self) -> list[dict[str, Any]]:
        """Return the lines of the access log."""
        return [json.loads(line) for line in self.output.read_text().splitlines()]

    def end(self) -> int:
        """End the server gracefully, and return its exit code."""
        self.http.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def _listening_port(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            for word in self.log.read_text().split():
                if word.startswith("http://127.0.0.1:"):
                    return int(word.rstrip(".").rpartition(":")[2])
            time.sleep(0.02)
        raise AssertionError(f"did not start:\n{self.log.read_text()}")


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
