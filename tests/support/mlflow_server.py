"""A real MLflow server, in an environment of its own: it needs another pyarrow than this project.

The environment lies in that of the tests and is made again when its lock file changes.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from digits.settings import ROOT

LOCK = ROOT / "tests" / "e2e" / "requirements-mlflow-server.txt"
# Seconds to wait for its start, on two busy cores.
PATIENCE = 240


def server_environment() -> Path:
    """Return the folder of the server's environment; the first call takes a minute."""
    root = Path(sys.prefix) / "mlflow-server"
    root.mkdir(exist_ok=True)
    name = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / name
        complete = folder / ".complete"
        if not complete.exists():
            for other in root.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
            venv.create(folder, with_pip=True)
            command = (folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
            options = ("install", "--quiet", "--require-hashes", "-r", LOCK)
            done = subprocess.run([*command, *options], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            complete.touch()
    return folder


class MlflowServer:
    """A server with its data in one folder, and its API without MLflow's client."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._environment = environment
        self._http = httpx.Client(base_url=f"{self.uri}/api/2.0", timeout=60, trust_env=False)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the server during a block, once."""
        command = (
            *(self._environment / "bin" / "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
            *("--artifacts-destination", self.folder / "artifacts"),
        )
        log = self.folder / "server.log"
        path = f"{self._environment}/bin:/usr/bin:/bin"
        variables = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
        with log.open("w") as said:
            process = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
            try:
                self._wait(process, log)
                yield
            finally:
                process.terminate()
                process.wait()
                self._http.close()

    def _wait(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if self._http.get(f"{self.uri}/health").is_success:
                    return
            time.sleep(0.2)
        raise AssertionError(f"the server did not start within {PATIENCE} s: {log.read_text()}")

    def runs(self) -> list[Any]:
        """Return all runs of all experiments, oldest first."""
        found = self.post("mlflow/experiments/search", {"max_results": 100})
        asked = {
            "experiment_ids": [one["experiment_id"] for one in found["experiments"]],
            "order_by": ["attributes.start_time"],
        }
        return list(self.post("mlflow/runs/search", asked).get("runs", []))

    def curve(self, run: str, metric: str) -> list[Any]:
        """Return the values of a metric of a run by step."""
        asked = {"run_id": run, "metric_key": metric}
        return list(self.get("mlflow/metrics/get-history", asked)["metrics"])

    def artifact(self, run: Any, path: str) -> bytes:
        """Return a file of a run."""
        root = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        found = self._http.get(f"mlflow-artifacts/artifacts/{root.lstrip('/')}/{path}")
        return found.raise_for_status().content

    def versions(self, model: str) -> list[Any]:
        """Return the registered versions of a model, oldest first."""
        found = self.get("mlflow/model-versions/search", {"filter": f"name='{model}'"})
        return sorted(found.get("model_versions", []), key=lambda one: int(one["version"]))

    def champion(self, model: str) -> Any:
        """Return the version to which the alias `champion` points."""
        asked = {"name": model, "alias": "champion"}
        return self.get("mlflow/registered-models/alias", asked)["model_version"]

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """Return the API's answer to a GET."""
        return self._http.get(path, params=query).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        """Return the API's answer to a POST."""
        return self._http.post(path, json=body).raise_for_status().json()

    def delete(self, path: str, body: Any) -> None:
        """Delete something by the API."""
        self._http.request("DELETE", path, content=json.dumps(body)).raise_for_status()


def tags_of(found: Any) -> dict[str, str]:
    """Return the tags of a version, or of the `data` of a run, as a mapping."""
    return {tag["key"]: tag["value"] for tag in found.get("tags", [])}
