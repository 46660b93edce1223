"""A real S3 server (SeaweedFS) with its data in one folder: started, stopped, killed, restarted."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from obstore.store import S3Store

WEED = str(Path(sys.executable).with_name("weed"))
BUCKET = "digits"
KEY_ID, SECRET = "digits", "made-up-secret"
# Seconds to wait for its start, on two busy cores.
PATIENCE = 120
SERVERS = ("master", "filer", "volume", "s3", "admin")


class ObjectStore:
    """One server with one bucket; `address` is what clients on this machine use.

    `volumes` limits its size, in volumes of 1 MB; the default is as much as fits on the disk.
    """

    def __init__(self, folder: Path, volumes: int = 0) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._log = folder.with_name(f"{folder.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        web, grpc = free_ports(len(SERVERS)), free_ports(len(SERVERS))
        self._options = [
            option
            for name, port, other in zip(SERVERS, web, grpc, strict=True)
            for option in (f"-{name}.port={port}", f"-{name}.port.grpc={other}")
        ]
        if volumes:
            self._options += ["-master.volumeSizeLimitMB=1", f"-volume.max={volumes}"]
        self.port = web[SERVERS.index("s3")]
        self.address = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The pid of the running server."""
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """What the server logged so far."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start the server on what its folder has, and wait until it stores something."""
        command = (
            *(WEED, "mini", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false"),
            *("-master.telemetry=false", f"-bucket={BUCKET}", *self._options),
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | credentials(), stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server, if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server with SIGKILL, if it runs."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server from doing anything during a block: connections hang."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def client(self, address: str = "", *, retries: int = 10) -> S3Store:
        """Return a client of obstore alone, by `address` or directly.

        It tries again by default: a server that has just started does not know all its objects.
        """
        return S3Store(
            BUCKET,
            endpoint=address or self.address,
            client_options={"allow_http": True, "timeout": "30s"},
            retry_config={"max_retries": retries},
            access_key_id=KEY_ID,
            secret_access_key=SECRET,
            region="us-east-1",
        )

    def _answers(self) -> bool:
        # The S3 server answers before the first volume can be written.
        try:
            self.client(retries=0).put(".started", b"")
        except Exception:  # noqa: BLE001 - obstore has no class for a server that starts
            return False
        return True

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


def credentials() -> dict[str, str]:
    """Return the environment variables with the key of the bucket."""
    return {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}


def environment(address: str, prefix: str = "team") -> dict[str, str]:
    """Return what a machine needs in its environment to use the store at an address."""
    return {
        **credentials(),
        "DIGITS_STORE": f"s3://{BUCKET}/{prefix}",
        "AWS_ENDPOINT_URL": address,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


@contextlib.contextmanager
def object_store(folder: Path, volumes: int = 0) -> Iterator[ObjectStore]:
    """Run a server during a block."""
    store = ObjectStore(folder, volumes)
    try:
        store.start()
        yield store
    finally:
        store.kill()


def free_ports(number: int) -> list[int]:
    """Return free ports, all different."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [listener.getsockname()[1] for listener in listeners]
