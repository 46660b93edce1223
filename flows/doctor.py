"""`digits doctor`: what a run or the service needs, and what of it is missing.

Only looks: starts nothing, writes nothing, and asks nothing of other machines but DIGITS_STORE.
"""

import importlib.util
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from digits.errors import DamagedError, DigitsError
from digits.registry.ledger import Ledger
from digits.settings import HOME, IS_INSTALLED, PROJECT, ROOT, Settings
from digits.spec import available_datasets, load_spec
from digits.storage.remote.addresses import objects_of
from digits.storage.remote.probe import passed
from digits.storage.workspace import Workspace
from digits.training.devices import resolve_device
from digits.training.gpus import first_gpu
from digits.training.precisions import fastest_precision
from digits.training.processors import processor
from flows.serving.service import api_address

PACKAGES = ("digits", "tasks", "flows")
# A first run on MNIST writes 0.4 GB of data, and a checkpoint and a model per training.
NEEDED_GB = 1.0
# What a run with both models takes, with TensorFlow.
NEEDED_MEMORY_GB = 2.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Finding(NamedTuple):
    """What was found about a subject, whether it is wrong, and what to do about it then."""

    state: Literal["ok", "note", "wrong"]
    subject: str
    found: str
    advice: str = ""

    def model_dump(self) -> dict[str, str]:
        """Return the finding as plain values, for --json."""
        return self._asdict()


def diagnose(settings: Settings) -> list[Finding]:
    """Return the findings about the machine, the installation and the workspace."""
    workspace = Workspace(settings)
    return [
        *_python(),
        *_machine(),
        *_folders(settings),
        *_store(settings),
        *_proxies(),
        *_server(settings),
        *(
            finding
            for name in available_datasets(settings)
            for finding in _dataset(name, workspace)
        ),
    ]


def _python() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()}, {sys.executable}")
    missing = sorted(filter(None, map(_missing, _requirements())))
    if missing:
        advice = "install the wheel again with pip" if IS_INSTALLED else "run `make clean run`"
        yield Finding("wrong", "libraries", f"missing: {', '.join(missing)}", advice)
    else:
        shown = ("tensorflow", "keras", "prefect", "great-expectations")
        found = ", ".join(f"{name} {version(name)}" for name in shown)
        yield Finding("ok", "libraries", found)
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        place = Path(spec.origin or "") if spec else None
        if place is None or not place.is_relative_to(ROOT):
            found = f"`{package}` is imported from {place}, not from {ROOT}"
            yield Finding("wrong", "libraries", found, "unset PYTHONPATH, or rename that module")


def _requirements() -> list[str]:
    try:
        return requires("digits") or []
    except PackageNotFoundError:
        return ["digits"]


def _missing(requirement: str) -> str | None:
    """Return the name of a required package that is not installed, or None."""
    needed, _, condition = requirement.partition(";")
    if "extra ==" in condition:
        return None
    name = re.match(r"[\w.-]+", needed)
    try:
        version(name[0] if name else needed)
    except PackageNotFoundError:
        return needed.strip()
    return None


def _machine() -> Iterator[Finding]:
    yield Finding("ok", "processor", processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if memory < NEEDED_MEMORY_GB:
        found, advice = f"{memory:.1f} GB", f"a run takes {NEEDED_MEMORY_GB:.0f} GB"
        yield Finding("wrong", "memory", found, advice)
    else:
        yield Finding("ok", "memory", f"{memory:.1f} GB")
    gpu = first_gpu()
    try:
        resolved = resolve_device("auto")
    except DigitsError as error:
        yield Finding("wrong", "gpu", str(error))
        return
    if gpu is None:
        yield Finding("ok", "gpu", "none; models train on the processor")
    elif resolved == "cpu":
        yield Finding("wrong", "gpu", f"{gpu.name}, without CUDA libraries", "run `make gpu`")
    else:
        yield Finding("ok", "gpu", gpu.name)
    fastest = fastest_precision(resolved)
    yield Finding("ok", "precision", f"fastest: {fastest.precision}; {fastest.reason}")


def _folders(settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "workspace", f"{HOME}, specs and deployments in {PROJECT}")
    for name in ("data_dir", "artifacts_dir", *(["cache_dir"] if settings.store else [])):
        folder: Path = getattr(settings, name)
        variable = f"DIGITS_{name.upper()}"
        there = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(there).free / 1e9
        found = f"{folder}, {free:.1f} GB free"
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            advice = f"fix its permissions, or set {variable} to another folder"
            yield Finding("wrong", "disk", f"{folder} cannot be written", advice)
        elif free < NEEDED_GB:
            advice = f"free {NEEDED_GB:.0f} GB, or set {variable} to another folder"
            yield Finding("wrong", "disk", found, advice)
        else:
            yield Finding("ok", "disk", found)


def _store(settings: Settings) -> Iterator[Finding]:
    objects = objects_of(settings)
    if objects is None:
        return
    last = passed(objects, settings.results_dir)
    if last is None:
        advice = "run `digits store probe`; the first write does it, too"
        yield Finding("note", "store", f"{objects.address}, not probed yet by this machine", advice)
    else:
        yield Finding(
            "ok", "store", f"{objects.address}, heeds conditions (probed {last:%Y-%m-%d})"
        )


def _proxies() -> Iterator[Finding]:
    found = {name: value for name, value in os.environ.items() if name.lower() in PROXIES and value}
    if not found:
        yield Finding("ok", "proxies", "none; downloads are direct")
    for name, value in sorted(found.items()):
        # Without the password that it may contain.
        address = urlsplit(value)
        shown = f"{name}={address.scheme}://{value.rpartition('@')[2].rpartition('//')[2]}"
        if not address.hostname:
            yield Finding("wrong", "proxies", f"{name} is not a URL", "set it as http://HOST:PORT")
        elif address.scheme.startswith("socks") and not importlib.util.find_spec("socksio"):
            advice = "downloads need an HTTP proxy: unset it, or install httpx[socks]"
            yield Finding("wrong", "proxies", shown, advice)
        else:
            yield Finding("ok", "proxies", f"{shown}, used for downloads")


def _server(settings: Settings) -> Iterator[Finding]:
    ours = api_address(settings)
    api = ours or os.environ.get("PREFECT_API_URL")
    if ours is None:
        yield from _ports()
    if api is None:
        found = "not up; each run starts a server of its own, `digits up` starts the service"
        yield Finding("ok", "server", found)
    elif _answers(api):
        yield Finding("ok", "server", f"up: {api}")
    else:
        advice = (
            "run `digits down`, then `digits up`"
            if ours
            else "start that server, or unset PREFECT_API_URL"
        )
        yield Finding("wrong", "server", f"no answer from {api}", advice)


def _ports() -> Iterator[Finding]:
    said = os.environ.get("PREFECT_SERVER_API_PORT") or "4200"
    if not said.isdecimal() or not 0 < int(said) < 65534:
        found = f"PREFECT_SERVER_API_PORT={said}"
        yield Finding("wrong", "ports", found, "set it to a number from 1 to 65533, or unset it")
        return
    uses = ("the dashboard", "the reports", "the model server")
    for port, use in enumerate(uses, start=int(said)):
        if _is_free(port):
            yield Finding("ok", "ports", f"{port} is free for {use}")
        else:
            advice = "end that program, or set PREFECT_SERVER_API_PORT to another port"
            found = f"{port}, for {use} of `digits up`, is in use by another program"
            yield Finding("wrong", "ports", found, advice)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        # As servers do, so that connections that were just closed do not count.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(api: str) -> bool:
    import httpx

    is_here = urlsplit(api).hostname in ("127.0.0.1", "localhost", "::1")
    try:
        return httpx.get(f"{api}/health", timeout=5, trust_env=not is_here).is_success
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError):
        return False


def _dataset(name: str, workspace: Workspace) -> Iterator[Finding]:
    """Check a dataset's spec and ledger, and every byte of its champion."""
    try:
        load_spec(name, workspace.settings)
        champion = Ledger(name, workspace.settings).champion()
        if champion is None:
            yield Finding("ok", "champion", f"{name}: none yet; `digits run --dataset {name}`")
            return
        workspace.store.verify(champion.model)
        workspace.store.verify(champion.evaluation)
    except DamagedError as error:
        advice = f"`digits run --dataset {name}` makes again what it can; or `digits rollback`"
        yield Finding("wrong", "champion", f"{name}: {error}", advice)
        return
    except DigitsError as error:  # says itself what to do
        yield Finding("wrong", "champion", f"{name}: {error}")
        return
    found = f"{name}: version {champion.number}, {champion.model.model}"
    yield Finding("ok", "champion", f"{found}, {champion.evaluation.accuracy:.2%}")
