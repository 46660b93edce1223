import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.e2e.conftest import Service
from tests.support.waiting import wait_for

PARTS = ("server", "worker", "pages", "model-server")


def listening_addresses(*ports: int) -> set[str]:
    """Return the addresses of listeners on these ports, as the kernel prints them."""
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == "0A" and int(port, 16) in ports:
                addresses.add(address)
    return addresses


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_the_service_stops_completely_and_keeps_its_data_for_the_next_start(
    make_service: Callable[..., Service],
) -> None:
    service = make_service()
    service.up()
    run = service.start("gc")
    assert service.finished(run) == "Completed"
    assert service.prefect("deployment", "schedule", "ls", "retrain/retrain").returncode == 0
    logged = (service.settings.artifacts_dir / "logs" / "server.log").stat().st_size

    assert service.signal(signal.SIGINT) == 0  # a Ctrl-C
    assert not any(service.is_alive(part) for part in (*PARTS, "service"))
    assert is_free(service.port)
    assert is_free(service.port + 1)

    service.up()
    assert service.state(run) == "Completed"
    assert (service.settings.artifacts_dir / "logs" / "server.log").stat().st_size > logged

    service.kill("service")
    assert all(service.is_alive(part) for part in PARTS)
    down = service.run("digits", "down")
    assert down.returncode == 0
    assert "server, worker, pages" in down.stderr
    assert not any(service.is_alive(part) for part in PARTS)
    assert is_free(service.port)
    assert "nothing; the service was not up" in service.run("digits", "down").stderr


def test_a_second_start_reports_that_the_service_is_up_and_does_no_harm(service: Service) -> None:
    pids = [service.pid(part) for part in PARTS]
    second = service.run("digits", "up")
    assert second.returncode == 0
    assert f"already up or starting: {service.url}/api" in second.stderr
    assert [service.pid(part) for part in PARTS] == pids


def test_it_listens_on_the_loopback_address_only(service: Service) -> None:
    assert listening_addresses(service.port, service.port + 1) == {"0100007F"}


def test_a_call_without_the_password_is_refused_if_one_is_set(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(PREFECT_SERVER_API_AUTH_STRING="operator:secret")
    service.up()  # registration and the worker use the password
    url = f"{service.url}/api/deployments/filter"
    assert httpx.post(url, json={}).status_code == 401
    assert httpx.post(url, json={}, auth=("operator", "wrong")).status_code == 401
    assert httpx.post(url, json={}, auth=("operator", "secret")).status_code == 200
    wait_for(
        lambda: service.ask("GET", "work_pools/digits")["status"] == "READY",
        "the worker to be let in",
    )


def test_registration_keeps_an_operators_pause(service: Service) -> None:
    def is_active() -> bool:
        return bool(service.deployment("retrain")["schedules"][0]["active"])

    schedule = service.deployment("retrain")["schedules"][0]["id"]
    assert (
        service.prefect("deployment", "schedule", "pause", "retrain/retrain", schedule).returncode
        == 0
    )
    try:
        assert service.prefect("deploy", "--all").returncode == 0
        assert not is_active()
    finally:
        schedule = service.deployment("retrain")["schedules"][0]["id"]
        service.prefect("deployment", "schedule", "resume", "retrain/retrain", schedule)
    assert is_active()


def test_the_service_of_another_workspace_is_left_alone(
    service: Service, make_service: Callable[..., Service]
) -> None:
    def updated() -> list[str]:
        return sorted(one["updated"] for one in service.post("deployments/filter", {}))

    before = updated()
    second = make_service(PREFECT_SERVER_API_PORT=str(service.port))
    up = second.run("digits", "up")
    assert up.returncode == 1
    assert f"port {service.port} is in use by process" in up.stderr
    assert updated() == before
    # From one workspace to the other's pages' port.
    up = second.run("digits", "up", PREFECT_SERVER_API_PORT=str(service.port + 1))
    assert up.returncode == 1
    assert f"port {service.port + 1} is in use by process" in up.stderr


def test_unknown_parameters_are_refused_when_they_are_sent(service: Service) -> None:
    # `prefect deploy` by hand, as another test calls it, allows them until the next registration.
    assert service.register().returncode == 0
    for name in ("retrain", "gc"):
        url = f"deployments/{service.deployment(name)['id']}/create_flow_run"
        answer = service.http.post(url, json={"parameters": {"planted": 1}})
        assert answer.status_code == 409
        assert "planted" in answer.text


def test_a_run_with_an_unknown_parameter_fails_with_the_reason(service: Service) -> None:
    # A client may ask the server not to check.
    url = f"deployments/{service.deployment('gc')['id']}/create_flow_run"
    sent = {"parameters": {"planted": 1}, "enforce_parameter_schema": False}
    run = service.post(url, sent)["id"]
    assert service.finished(run) == "Failed"
    message = service.flow_run(run)["state"]["message"]
    expected = "keep, refused_days, grace_hours, dry_run"
    assert message == f"unknown parameter planted (expected {expected})"
