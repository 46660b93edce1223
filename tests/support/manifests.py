"""What a team deploys, as data: the processes of compose.yaml, of Kubernetes and of the charts."""

import functools
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from digits.settings import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu")
CHARTS = ("prefect-server", "prefect-worker")
# Kinds whose pods run our image.
WORKLOADS = ("Deployment", "Job")
# ${NAME}, ${NAME:-default} or ${NAME:?reason}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
TOOLS = Path(sys.executable).parent


class Process(NamedTuple):
    """A process of digits: where it is described, its arguments, and its environment.

    A value of the environment is None if it comes from a Secret.
    """

    where: str
    name: str
    arguments: list[str]
    environment: Mapping[str, str | None]


@functools.cache
def compose() -> dict[str, Any]:
    """Return compose.yaml, with its variables as they are written."""
    described = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return dict(described)


def own_services() -> dict[str, dict[str, Any]]:
    """Return the services of compose.yaml that run our image, by name."""
    return {name: one for name, one in compose()["services"].items() if "build" in one}


def build(overlay: str) -> "subprocess.CompletedProcess[str]":
    """Build an overlay with kustomize."""
    command: list[str | Path] = [TOOLS / "kubectl", "kustomize", KUBERNETES / "overlays" / overlay]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@functools.cache
def objects(overlay: str) -> tuple[dict[str, Any], ...]:
    """Return the Kubernetes objects of an overlay."""
    return tuple(yaml.safe_load_all(build(overlay).stdout))


def workloads(overlay: str) -> dict[str, dict[str, Any]]:
    """Return the pods' specifications of an overlay, by the name of their Deployment or Job."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]
        for one in objects(overlay)
        if one["kind"] in WORKLOADS
    }


@functools.cache
def values(chart: str) -> dict[str, Any]:
    """Return our values for one of Prefect's charts."""
    described = yaml.safe_load((KUBERNETES / "values" / f"{chart}.yaml").read_text("utf-8"))
    return dict(described)


def processes() -> Iterator[Process]:
    """Yield every process of digits that any manifest starts."""
    for name, one in own_services().items():
        yield Process("compose.yaml", name, one["command"], one["environment"])
    for overlay in OVERLAYS:
        settings = next(one for one in objects(overlay) if one["kind"] == "ConfigMap")["data"]
        for name, pod in workloads(overlay).items():
            (container,) = pod["containers"]
            own = _environment(container.get("env", ()))
            yield Process(overlay, name, container["args"], {**settings, **own})
    yield from _of_charts()


def _of_charts() -> Iterator[Process]:
    server, worker = (values(chart) for chart in CHARTS)
    common = server["global"]["prefect"]["env"]
    for name, one in (("server", server["server"]), ("services", server["backgroundServices"])):
        yield Process("prefect-server", name, _arguments(one), _environment([*common, *one["env"]]))
    one = worker["worker"]
    yield Process("prefect-worker", "worker", _arguments(one), _environment(one["extraEnvVars"]))


def _arguments(described: Mapping[str, Any]) -> list[str]:
    command: list[str] = [*described["command"], *described["args"]]
    assert command[0] == "digits"
    return command[1:]


def _environment(described: Any) -> dict[str, str | None]:
    return {one["name"]: one.get("value") for one in described}
