"""What lies around a service and a run: taken ports, proxies, files in the current folder."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from digits.settings import ROOT
from tests.e2e.conftest import Service
from tests.support.small_dataset import NAME

RUN = ("digits", "run", "--dataset", NAME, "--models", "mlp", "--epochs", "1", "--device", "cpu")
DEAD = "127.0.0.1:9"


class Stranger(ThreadingHTTPServer):
    """Another program's server, which answers 200 to everything and counts connections."""

    def __init__(self, port: int) -> None:
        self.num_connections = 0
        super().__init__(("127.0.0.1", port), Ready)

    def process_request(self, *arguments: object) -> None:
        self.num_connections += 1
        super().process_request(*arguments)  # type: ignore[arg-type]


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def taken(
    request: pytest.FixtureRequest, make_service: Callable[..., Service]
) -> Iterator[tuple[Service, Stranger, int]]:
    """A service, one of whose two ports is taken by another program."""
    service = make_service()
    port = service.port + request.param
    with Stranger(port) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        yield service, stranger, port
        stranger.shutdown()
        thread.join()


@pytest.mark.parametrize("taken", [0, 1], indirect=True)
def test_a_taken_port_is_reported_before_anything_is_sent_or_started(
    taken: tuple[Service, Stranger, int],
) -> None:
    service, stranger, port = taken
    up = service.run("digits", "up")
    assert up.returncode == 1
    assert up.stderr.count("\n") == 1, up.stderr
    assert f"port {port} is in use by process {os.getpid()} (" in up.stderr
    assert "PREFECT_SERVER_API_PORT" in up.stderr
    assert stranger.num_connections == 0
    assert not any(service.is_alive(part) for part in ("service", "server", "worker", "pages"))


@pytest.mark.parametrize("port", ["", "0", "abc", "65535"])
def test_what_cannot_be_a_port_is_a_usage_error(
    port: str, make_service: Callable[..., Service]
) -> None:
    up = make_service().run("digits", "up", PREFECT_SERVER_API_PORT=port)
    assert up.returncode == 2
    assert up.stderr.startswith(f"Error: PREFECT_SERVER_API_PORT={port!r} is not usable")
    assert up.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": f"http://{DEAD}", "NO_PROXY": "127.0.0.0/8"},
        {"all_proxy": f"socks5://{DEAD}", "http_proxy": f"http://{DEAD}"},
    ],
)
def test_proxies_are_not_asked_for_this_machine(
    proxies: dict[str, str], make_service: Callable[..., Service]
) -> None:
    service = make_service(**proxies)
    by_hand = service.run(*RUN)
    assert by_hand.returncode == 0, by_hand.stderr
    service.up()
    run = service.post(f"deployments/{service.deployment('gc')['id']}/create_flow_run", {})["id"]
    assert service.finished(run) == "Completed"


def test_a_server_that_asks_for_a_password_is_explained(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(PREFECT_SERVER_API_AUTH_STRING="operator:secret")
    service.up()
    refused = service.run(*RUN)
    assert refused.returncode == 1
    assert "asks for a password; set PREFECT_API_AUTH_STRING" in refused.stderr.splitlines()[-1]
    assert "secret" not in refused.stderr
    allowed = service.run(*RUN, PREFECT_API_AUTH_STRING="operator:secret")
    assert allowed.returncode == 0, allowed.stderr


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with files that Prefect and Python execute, and where those leave their mark."""
    folder, loot = tmp_path / "planted", tmp_path / "loot"
    folder.mkdir()
    loot.mkdir()
    for kind in ("toml", "env", "pyproject", "profile", "home"):
        # Python's logging calls whatever a configuration names.
        mark = {"()": "os.makedirs", "name": str(loot / kind), "exist_ok": True}
        (folder / f"{kind}.yml").write_text(f"version: 1\nhandlers: {{mark: {mark}}}\n")
    named = {kind: str(folder / f"{kind}.yml") for kind in ("toml", "env", "pyproject", "profile")}
    (folder / "prefect.toml").write_text(f'[logging]\nconfig_path = "{named["toml"]}"\n')
    (folder / ".env").write_text(f"PREFECT_LOGGING_CONFIG_PATH={named['env']}\n")
    (folder / "pyproject.toml").write_text(
        f'[tool.prefect.logging]\nconfig_path = "{named["pyproject"]}"\n'
    )
    (folder / "profiles.toml").write_text(
        'active = "planted"\n[profiles.planted]\n'
        f'PREFECT_LOGGING_CONFIG_PATH = "{named["profile"]}"\n'
    )
    for module in ("six", "uvicorn", "yaml", "flows"):
        (folder / f"{module}.py").write_text(f"import os; os.makedirs({str(loot / module)!r})\n")
    return folder, loot


@pytest.mark.parametrize("kind", ["toml", "env", "pyproject"])
def test_prefect_alone_executes_what_the_planted_files_name(
    kind: str, planted: tuple[Path, Path]
) -> None:
    # Otherwise the next test would show nothing.
    folder, loot = planted
    others = {"toml": "prefect.toml", "env": ".env", "pyproject": "pyproject.toml"}
    others.pop(kind)
    for name in others.values():
        (folder / name).unlink()
    code = "from prefect.logging.configuration import setup_logging as setup; setup()"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    subprocess.run([sys.executable, "-P", "-c", code], cwd=folder, env=bare, capture_output=True)
    assert (loot / kind).exists()


def test_files_of_the_current_folder_and_of_the_workspace_are_not_executed(
    planted: tuple[Path, Path], make_service: Callable[..., Service]
) -> None:
    folder, loot = planted
    service = make_service(PYTHONPATH=str(ROOT))
    service.cwd = folder
    home = service.settings.artifacts_dir / "prefect"
    home.mkdir(parents=True)
    (folder / "profiles.toml").rename(home / "profiles.toml")
    (folder / "home.yml").rename(home / "logging.yml")
    by_hand = service.run(*RUN)
    assert by_hand.returncode == 0, by_hand.stderr
    service.up()
    run = service.post(f"deployments/{service.deployment('gc')['id']}/create_flow_run", {})["id"]
    assert service.finished(run) == "Completed"
    assert list(loot.iterdir()) == []
