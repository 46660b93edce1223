"""A page of another site in the operator's browser, which tries to use the two servers.

Both are the real ones, and so is the browser: only it decides what a page may send.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from digits.settings import ROOT
from tests.e2e.conftest import Service
from tests.support.browser import OPTIONS
from tests.support.waiting import wait_for

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
# A name of the attacker's that he points at this machine.
REBOUND = "rebound.example"
PAUSE, RESUME = (f"api/deployments/{{}}/{what}_deployment" for what in ("pause", "resume"))
# The server of a run by hand, until the end of standard input.
RUN_SERVER = """
import os, sys
from flows.serving.embedded_server import prefect_server
with prefect_server() as wait:
    wait()
    print(os.environ["PREFECT_API_URL"], flush=True)
    print(os.environ["PREFECT_API_AUTH_STRING"], flush=True)
    sys.stdin.read()
"""
# What a page can send. Each returns what it was allowed to see of the answer.
SEEN = "async answer => answer.type === 'opaque' ? 'opaque' : `${answer.status}`"
SENDERS = {
    "json": """([url, body]) => fetch(url, {method: 'POST', body,
        headers: {'Content-Type': 'application/json'}})""",
    "text": """([url, body]) => fetch(url, {method: 'POST', body,
        headers: {'Content-Type': 'text/plain'}})""",
    "no-cors": """([url, body]) => fetch(url, {method: 'POST', body, mode: 'no-cors'})""",
    "credentials": """([url, body]) => fetch(url, {method: 'POST', body, mode: 'no-cors',
        credentials: 'include', referrerPolicy: 'no-referrer', keepalive: true})""",
    "delete": """([url]) => fetch(url, {method: 'DELETE'})""",
}
BEACON = "([url, body]) => navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}))"
FORM = """([url, encoding]) => new Promise(resolve => {
    const frame = document.createElement('iframe');
    frame.name = `target-${encoding}`;
    document.body.appendChild(frame);
    const form = document.body.appendChild(document.createElement('form'));
    Object.assign(form, {method: 'POST', action: url, target: frame.name, enctype: encoding});
    const field = form.appendChild(document.createElement('input'));
    field.name = '{"parameters": {}, "a": "'; field.value = '"}';
    frame.onload = () => resolve(true);
    setTimeout(resolve, 5000);  // an answer without content loads nothing
    form.submit();
})"""
SOCKET = """([url, protocols]) => new Promise(resolve => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('refused');
})"""
FRAME = """url => new Promise(resolve => {
    const frame = document.body.appendChild(document.createElement('iframe'));
    frame.onload = () => resolve(frame.contentDocument === null ? 'foreign' : 'own');
    frame.src = url;
})"""


class BlankPage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>hostile</title><body>")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The URL of a page at another origin, also on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BlankPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    rebinding = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, rebinding])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def run_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a run's own server, and the password that only this run knows."""
    folder = tmp_path_factory.mktemp("run")
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {"PREFECT_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", RUN_SERVER],
        cwd=folder,
        env=bare | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.stdout.readline().strip()
        process.communicate()


def send(page: Page, how: str, url: str, body: str = "{}") -> str:
    """Send a request from a page, and return its status or why the page cannot know."""
    script = f"arguments_ => ({SENDERS[how]})(arguments_).then({SEEN}).catch(() => 'blocked')"
    return str(page.evaluate(script, [url, body]))


def send_all(page: Page, url: str) -> set[str]:
    """Send requests of every kind that would start a run, and return what the page saw."""
    seen = {send(page, how, url) for how in SENDERS}
    page.evaluate(BEACON, [url, "{}"])
    for encoding in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        page.evaluate(FORM, [url, encoding])
    return seen


def num_runs(service: Service) -> int:
    return int(service.post("flow_runs/count", {}))


def planted(name: str) -> dict[str, Any]:
    return {"name": name}


def test_a_page_of_another_origin_starts_nothing(
    service: Service, page: Page, elsewhere: str
) -> None:
    deployment = service.deployment("gc")["id"]
    start = f"{service.url}/api/deployments/{deployment}/create_flow_run"
    before = num_runs(service)
    page.goto(elsewhere)
    assert send_all(page, start) <= {"blocked", "opaque"}
    # This one needs no body, so no preflight asks before.
    assert send_all(page, f"{service.url}/{PAUSE.format(deployment)}") <= {"blocked", "opaque"}
    assert not service.deployment("gc")["paused"]
    assert send(page, "json", f"{service.url}/api/flows/", '{"name": "planted"}') == "blocked"
    assert send(page, "text", f"{service.url}/api/flows/", '{"name": "planted"}') == "blocked"
    assert num_runs(service) == before
    assert service.post("flows/count", {"flows": {"name": {"any_": ["planted"]}}}) == 0


def test_the_dashboards_own_page_can_start_runs(service: Service, page: Page) -> None:
    # Otherwise the test above would show nothing.
    deployment = service.deployment("gc")["id"]
    page.goto(service.url)
    start = f"/api/deployments/{deployment}/create_flow_run"
    before = num_runs(service)
    late = (
        '{"state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00Z"}}}'
    )
    assert send(page, "json", start, late) == "201"
    assert num_runs(service) == before + 1
    send(page, "text", f"/{PAUSE.format(deployment)}")
    assert service.deployment("gc")["paused"]
    send(page, "text", f"/{RESUME.format(deployment)}")
    assert not service.deployment("gc")["paused"]


def test_a_name_that_is_pointed_at_this_machine_reaches_nothing(
    service: Service, page: Page
) -> None:
    rebound = f"http://{REBOUND}:{service.port}"
    answer = page.goto(rebound)
    assert answer is not None
    assert answer.status == 403
    assert "DIGITS_ALLOWED_HOSTS" in answer.text()
    deployment = service.deployment("gc")["id"]
    before = num_runs(service)
    # Now the page is of the same origin as what it asks.
    start = f"{rebound}/api/deployments/{deployment}/create_flow_run"
    assert {send(page, how, start) for how in SENDERS} == {"403"}
    assert (
        page.evaluate("url => fetch(url).then(answer => answer.status)", f"{rebound}/api/health")
        == 403
    )
    socket = f"ws://{REBOUND}:{service.port}/api/events/out"
    assert page.evaluate(SOCKET, [socket, ["prefect"]]) == "refused"
    assert num_runs(service) == before


def test_web_sockets_open_for_the_dashboard_only(
    service: Service, page: Page, elsewhere: str
) -> None:
    for path in ("events/in", "events/out", "logs/out"):
        socket = f"ws://127.0.0.1:{service.port}/api/{path}"
        for protocols in ([], ["prefect"]):
            page.goto(elsewhere)
            assert page.evaluate(SOCKET, [socket, protocols]) == "refused", path
            page.goto(service.url)
            assert page.evaluate(SOCKET, [socket, protocols]) == "open", path


def test_the_dashboard_and_the_pages_cannot_be_framed(
    service: Service, page: Page, elsewhere: str
) -> None:
    page.goto(elsewhere)
    for port in (service.port, service.port + 1):
        with page.expect_response(f"http://127.0.0.1:{port}/") as answer:
            page.evaluate(FRAME, f"http://127.0.0.1:{port}/")
        assert answer.value.status == 403


def test_a_link_to_the_dashboard_works(service: Service, page: Page, elsewhere: str) -> None:
    page.goto(elsewhere)
    page.evaluate("url => { location = url }", f"{service.url}/deployments")
    page.wait_for_url(f"{service.url}/deployments")
    page.get_by_text("retrain").first.wait_for()


def test_the_server_of_a_run_answers_no_page_and_nobody_without_its_password(
    run_server: tuple[str, str], page: Page, elsewhere: str
) -> None:
    api, password = run_server
    mine = httpx.BasicAuth(*password.split(":"))
    page.goto(elsewhere)
    assert send_all(page, f"{api}/flows/") <= {"blocked", "opaque"}
    assert send(page, "json", f"{api}/flows/", '{"name": "planted"}') == "blocked"
    socket = api.replace("http", "ws", 1) + "/events/in"
    assert page.evaluate(SOCKET, [socket, ["prefect"]]) == "refused"
    for host in ("127.0.0.1", REBOUND):
        answer = page.goto(api.replace("127.0.0.1", host) + "/health")
        assert answer is not None
        assert answer.status == 403

    assert httpx.post(f"{api}/flows/", json=planted("planted")).status_code == 401
    guessed = httpx.BasicAuth("run", "guessed")
    assert httpx.post(f"{api}/flows/", json=planted("planted"), auth=guessed).status_code == 401
    assert httpx.post(f"{api}/flows/count", json={}, auth=mine).json() == 0
    assert httpx.post(f"{api}/flows/", json=planted("own"), auth=mine).status_code == 201
    arguments = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
    ]
    assert not any(password.split(":")[1].encode() in line for line in arguments)


@pytest.mark.usefixtures("first")
def test_the_pages_server_shows_pages_only(service: Service, page: Page) -> None:
    (report, *_) = (service.settings.artifacts_dir / "reports").glob("*/report.html")
    pages = f"http://127.0.0.1:{service.port + 1}"
    shown = page.goto(f"{pages}/reports/{report.parent.name}/report.html")
    assert shown is not None
    assert shown.status == 200
    assert "default-src 'none'" in shown.headers["content-security-policy"]
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    for path in (
        "",
        "reports",
        "reports/",
        f"reports/{report.parent.name}/",
        f"reports/{report.parent.name}/manifest.json",
        "locks/service.lock",
        "reports/../locks/service.lock",
        "reports/%2e%2e/locks/service.lock",
    ):
        assert httpx.get(f"{pages}/{path}").status_code == 404, path
    assert httpx.get(pages, headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_another_user_of_this_machine_is_answered_nothing(service: Service) -> None:
    script = (
        "import sys, urllib.request, urllib.error\n"
        "try:\n    print(urllib.request.urlopen(sys.argv[1]).status)\n"
        "except urllib.error.HTTPError as error:\n    print(error.code)\n"
        "except OSError as error:\n    print('closed')\n"
    )
    for port in (service.port, service.port + 1):
        url = f"http://127.0.0.1:{port}/"
        command = ["/usr/bin/python3", "-c", script, url]
        told = subprocess.check_output(command, user=65534, env={}, cwd="/", text=True)
        assert told.strip() in ("403", "closed")


def test_a_planted_deployment_is_refused_with_the_reason(service: Service, tmp_path: Path) -> None:
    # As if someone had written into the database, past all checks.
    loot = tmp_path / "loot"
    step = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {loot}"}}
    flow = service.post("flows/", {"name": "planted"})["id"]
    for name in ("planted", "gc"):
        deployment = service.post(
            "deployments/",
            {
                "name": name,
                "flow_id": flow,
                "entrypoint": "flows/gc.py:gc",
                "pull_steps": [step],
                "work_pool_name": "digits",
                "job_variables": {"command": f"touch {loot}", "env": {"PREFECT_HOME": "/tmp"}},
            },
        )
        run = service.post(f"deployments/{deployment['id']}/create_flow_run", {})["id"]
        assert service.finished(run) == "Failed"
        message = service.flow_run(run)["state"]["message"]
        assert message.startswith("refused: ")
        assert "planted is not a deployment" in message or "run_shell_script" in message
        service.ask("DELETE", f"deployments/{deployment['id']}")
    assert not loot.exists()
    wait_for(lambda: service.is_alive("worker"), "the worker to be alive")
