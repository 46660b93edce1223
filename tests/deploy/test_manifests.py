"""What a team deploys: each manifest is valid, names what exists, and keeps secrets out."""

import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from digits.server.guard import NAMES_SETTING
from digits.settings import ROOT, Settings
from digits.storage.remote.addresses import connected
from tests.support.manifests import (
    CHARTS,
    KUBERNETES,
    OVERLAYS,
    TOOLS,
    VARIABLE,
    Process,
    build,
    compose,
    objects,
    own_services,
    processes,
    workloads,
)

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "deploy" / "example.env").read_text(encoding="utf-8")
ALL = list(processes())
# Variables whose values nobody else may know; an address may contain a password.
SECRET = re.compile(r"PASSWORD|SECRET|KEY|AUTH|_URL$")
ADDRESSES = {"PREFECT_API_URL", "AWS_ENDPOINT_URL"}
# Set by Prefect's charts, rather than by our values for them.
BY_CHARTS = {
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_URL",
}


def of(process: Process) -> str:
    return f"{process.where}:{process.name}"


def named(kind: str, overlay: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects(overlay) if one["kind"] == kind}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    return dict(only)


# Every process of every manifest


@pytest.mark.parametrize("process", ALL, ids=of)
def test_each_command_exists_with_its_options(process: Process) -> None:
    from flows.cli import main

    name, *arguments = process.arguments
    main.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("process", ALL, ids=of)
def test_each_variable_is_a_setting(process: Process) -> None:
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_settings_fields

    ours = {f"DIGITS_{name.upper()}" for name in Settings.model_fields}
    known = ours | {"DIGITS_HOME", NAMES_SETTING} | _get_settings_fields(PrefectSettings).keys()
    assert {name for name in process.environment if not name.startswith("AWS_")} <= known


@pytest.mark.parametrize("process", ALL, ids=of)
def test_no_manifest_contains_a_secret(process: Process) -> None:
    for name, value in process.environment.items():
        if SECRET.search(name) and name not in ADDRESSES and value is not None:
            assert re.fullmatch(r"[^$]*\$\{\w+:\?[^}]*\}[^$:@]*(@[^$]*)?", value), name


def test_a_process_has_the_same_variables_wherever_it_runs() -> None:
    def variables(process: Process) -> set[str]:
        store = {name for name in process.environment if name.startswith("AWS_")}
        return process.environment.keys() - store - {"DIGITS_HOME"}

    expected = {one.name: variables(one) for one in ALL if one.where == "compose.yaml"}
    # All pods of Kubernetes share one ConfigMap; a process ignores what it does not need.
    shared = set(named("ConfigMap", "cpu").popitem()[1]["data"])
    for process in ALL:
        if process.where in OVERLAYS:
            assert variables(process) - shared == expected[process.name] - shared, of(process)
            assert variables(process) >= expected[process.name], of(process)
        elif process.where in CHARTS:
            assert variables(process) | BY_CHARTS >= expected[process.name], of(process)


# The image


def test_the_dockerfile_has_no_findings() -> None:
    subprocess.run([TOOLS / "hadolint", ROOT / "Dockerfile"], check=True)


def test_all_that_the_image_is_made_of_is_in_the_build_context() -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert f"!/{source}" in kept


def test_the_image_has_everything_that_a_wheel_has() -> None:
    shipped = re.search(r"FILES = \((.*)\)", (ROOT / "setup.py").read_text(encoding="utf-8"))
    assert shipped is not None
    for name in (*re.findall(r'"(.*?)"', shipped[1]), "setup.py", "MANIFEST.in", "pyproject.toml"):
        assert re.search(rf"^COPY .*\b{re.escape(name)} ", DOCKERFILE, re.MULTILINE), name


def test_the_image_installs_locked_libraries_only() -> None:
    installs = re.findall(r"pip install (?:[^\\\n]|\\\n)*", DOCKERFILE)
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes" in install or "--no-deps --no-build-isolation" in install


# compose.yaml


def test_only_the_proxy_is_reachable_and_only_from_this_machine() -> None:
    open_to = {name: one["ports"] for name, one in compose()["services"].items() if "ports" in one}
    assert open_to.keys() == {"proxy"}
    assert all(port.startswith("${PUBLIC_BIND:-127.0.0.1}:") for port in open_to["proxy"])
    assert compose()["networks"]["back"]["internal"] is True
    for name in ("postgres", "redis", "store"):
        assert compose()["services"][name]["networks"] == ["back"]


def test_nothing_starts_without_the_values_of_the_example() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    required = {name for name, kind, _ in VARIABLE.findall(text) if kind == "?"}
    optional = {name for name, kind, _ in VARIABLE.findall(text) if kind == "-"}
    assert set(re.findall(r"^(\w+)=$", EXAMPLE, re.MULTILINE)) == required
    assert set(re.findall(r"^#(\w+)=\S+$", EXAMPLE, re.MULTILINE)) == optional
    assert not re.findall(r"^\w+=.+$", EXAMPLE, re.MULTILINE)
    # The checkout's own commands read .env as well, and would then use the team's store.
    assert not [name for name in required | optional if name.startswith(("DIGITS_", "PREFECT_"))]


def test_our_containers_have_no_rights_that_they_do_not_need() -> None:
    for one in own_services().values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in one
        assert "privileged" not in one


def test_compose_names_what_it_describes() -> None:
    described = compose()
    for one in described["services"].values():
        assert set(one["networks"]) <= described["networks"].keys()
        assert one.get("depends_on", {}).keys() <= described["services"].keys()
        for volume in one.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (ROOT / source).exists() if "/" in source else source in described["volumes"]


def test_the_store_is_reached_by_the_variables_of_compose(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    class Bucket(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append((self.path.partition("?")[0], self.headers["Authorization"]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    settings = compose()["x-store"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = {
            **{name: VARIABLE.sub(r"\3", value) for name, value in settings.items()},
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "our-key",
        }
        for name, value in here.items():
            monkeypatch.setenv(name, value)
        # Without the probe of a store: this one stores nothing.
        connected(here["DIGITS_STORE"], tmp_path, seconds=10).write("name", b"content")
        server.shutdown()

    ((path, authorization),) = asked
    assert path == "/digits/workspace/name"
    assert "our-key/" in authorization
    assert f"/{here['AWS_REGION']}/s3/" in authorization


# Kubernetes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_is_valid(overlay: str, tmp_path: Path) -> None:
    built = tmp_path / "built.yaml"
    built.write_text(build(overlay).stdout)
    command = [TOOLS / "kubernetes-validate", "--strict", built]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count(" passed ") + checked.stderr.count(" passed ") == len(
        objects(overlay)
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights_that_they_do_not_need(overlay: str) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    home = re.search(r"DIGITS_HOME=(\S+)", DOCKERFILE)
    assert user is not None
    assert home is not None
    for pod in workloads(overlay).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user[1])
        assert pod["securityContext"]["fsGroup"] == int(user[2])
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounts = {one["mountPath"] for one in container(pod)["volumeMounts"]}
        assert mounts == {home[1], "/tmp"}
        assert container(pod)["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert "memory" in container(pod)["resources"]["limits"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_referred_to_and_described(overlay: str) -> None:
    assert not named("Secret", overlay)
    asked = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for pod in workloads(overlay).values()
        for one in container(pod)["env"]
    }
    document = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"--from-literal=([a-z-]+)=", document))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_and_ports_lead_to_pods(overlay: str) -> None:
    pods = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: container(
            one["spec"]["template"]["spec"]
        )
        for kind in ("Deployment", "Job")
        for one in named(kind, overlay).values()
    }
    services = named("Service", overlay)
    for service in services.values():
        pod = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= {
            one["name"] for one in pod["ports"]
        }
    for pod in pods.values():
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in pod:
                assert pod[probe]["httpGet"]["port"] in {one["name"] for one in pod["ports"]}
    for budget in named("PodDisruptionBudget", overlay).values():
        assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] in pods
    (ingress,) = named("Ingress", overlay).values()
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            ports = services[backend["name"]]["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in ports}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_named_pods_may_connect(overlay: str) -> None:
    policies = named("NetworkPolicy", overlay)
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    (within, _) = policies["server"]["spec"]["ingress"][0]["from"]
    (expression,) = within["podSelector"]["matchExpressions"]
    clients = {"worker", "worker-gpu", "services", "register"}
    assert set(expression["values"]) == clients
    assert clients >= workloads(overlay).keys() - {"server", "model-server"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_hosts_of_the_ingress_are_let_in(overlay: str) -> None:
    (ingress,) = named("Ingress", overlay).values()
    (settings,) = named("ConfigMap", overlay).values()
    allowed = set(settings["data"]["DIGITS_ALLOWED_HOSTS"].split(","))
    hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
    assert hosts | {"server"} <= allowed
    assert hosts == {host for one in ingress["spec"]["tls"] for host in one["hosts"]}


def test_only_workers_for_gpus_take_a_gpu() -> None:
    taking = {
        name
        for name, pod in workloads("gpu").items()
        if "nvidia.com/gpu" in container(pod)["resources"]["limits"]
    }
    assert taking == {"worker-gpu"}
    assert container(workloads("gpu")["worker-gpu"])["args"] == ["worker", "--pool", "digits-gpu"]


def test_each_file_of_kubernetes_is_used() -> None:
    listed = {
        (path.parent / name).resolve()
        for path in KUBERNETES.rglob("kustomization.yaml")
        for name in re.findall(r"[\w./-]+\.yaml", path.read_text(encoding="utf-8"))
    }
    files = {path for path in KUBERNETES.rglob("*.yaml") if path.parent.name != "values"}
    assert {path for path in files if path.name != "kustomization.yaml"} == listed
    assert {path.stem for path in (KUBERNETES / "values").iterdir()} == set(CHARTS)
