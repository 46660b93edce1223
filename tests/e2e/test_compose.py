"""What compose.yaml starts works together, behind the proxy with its own configuration."""

import ssl
from collections.abc import Iterator

import httpx
import pytest

from tests.support.composed import VALUES, Composed
from tests.support.engines import PostgreSQL, Redis
from tests.support.object_store import object_store
from tests.support.small_dataset import NAME
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(900)

AUTH = httpx.BasicAuth(*VALUES["AUTH_STRING"].split(":"))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    folder = tmp_path_factory.mktemp("composed")
    with PostgreSQL() as database, Redis() as redis, object_store(folder / "store") as store:
        composed = Composed(folder, database, redis, store)
        try:
            composed.start()
            assert composed.processes["register"].wait(480) == 0, composed.log("register")
            yield composed
        finally:
            composed.end()


def client(port: int) -> httpx.Client:
    # The certificate is of the proxy's own authority.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return httpx.Client(
        base_url=f"https://localhost:{port}", verify=unverified, timeout=30, trust_env=False
    )


@pytest.fixture(scope="module")
def dashboard(team: Composed) -> Iterator[httpx.Client]:
    with client(team.port) as asking:
        wait_for(lambda: asking.get("/api/ready").is_success, "the server behind the proxy")
        yield asking


def test_the_dashboard_asks_for_the_password_and_refuses_foreign_pages(
    team: Composed, dashboard: httpx.Client
) -> None:
    page = dashboard.get("/")
    assert page.is_success
    assert "<title>" in page.text
    assert dashboard.get("/api/admin/version").status_code == 401
    assert dashboard.get("/api/admin/version", auth=AUTH).is_success
    for origin, status in (("https://evil.example", 403), (f"https://localhost:{team.port}", 200)):
        asked = dashboard.post(
            "/api/flow_runs/filter", json={}, auth=AUTH, headers={"Origin": origin}
        )
        assert asked.status_code == status


def test_a_run_that_the_dashboard_starts_puts_a_champion_into_service(
    team: Composed, dashboard: httpx.Client
) -> None:
    retrain = dashboard.get("/api/deployments/name/retrain/retrain", auth=AUTH).json()
    parameters = {"dataset": NAME, "models": ["mlp"], "recipe": "quick"}
    run = dashboard.post(
        f"/api/deployments/{retrain['id']}/create_flow_run",
        json={"parameters": parameters},
        auth=AUTH,
    ).json()

    def end() -> str:
        state = dashboard.get(f"/api/flow_runs/{run['id']}", auth=AUTH).json()["state"]
        return "" if state["type"] in ("SCHEDULED", "PENDING", "RUNNING") else state["type"]

    assert wait_for(end, "the end of the run") == "COMPLETED", team.log("worker")

    key = {"Authorization": f"Bearer {VALUES['API_KEY']}"}
    with client(team.models_port) as models:
        assert models.get("/datasets").status_code == 401
        served = wait_for(
            lambda: models.get("/datasets", headers=key).json()["datasets"], "the champion"
        )
    assert [(one["name"], one["version"]) for one in served] == [(NAME, 1)]


def test_the_dashboard_stays_when_a_replica_ends(team: Composed, dashboard: httpx.Client) -> None:
    replica = team.processes["server-0"]
    replica.terminate()
    replica.wait(60)
    asked = [dashboard.get("/api/admin/version", auth=AUTH) for _ in range(10)]
    assert all(answer.is_success for answer in asked)
