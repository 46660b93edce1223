"""The examples of docs/serve.md, run as they are written, but for the port."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits.settings import ROOT, Settings
from tests.support.model_server import ModelServer, drawing, png
from tests.support.served_versions import promote_version

pytestmark = pytest.mark.e2e

DOCS = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """A server of MNIST, whose champion says 7."""
    folder = tmp_path_factory.mktemp("documented")
    settings = Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts")
    promote_version(settings, 7, "mnist", shape=(28, 28))
    (folder / "digit.png").write_bytes(png(drawing()))
    server = ModelServer(settings, folder, dataset="mnist")
    server.await_ready()
    yield server
    server.end()


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_the_commands_are_answered(number: int, server: ModelServer) -> None:
    code = blocks("sh")[number].replace("localhost:8000", f"localhost:{server.port}")
    code = code.replace("curl -s", "curl -sS --fail-with-body --noproxy '*' -w '\\n'")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=server.log.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == code.count("curl ")
    for answer in answers:
        assert [row["label"] for row in answer.get("predictions", [])] in ([], [7], [7, 7])
        for output in answer.get("outputs", []):
            assert "shape" in output
    assert "error" not in done.stdout


def test_the_python_example_prints_label_and_version(server: ModelServer, tmp_path: Path) -> None:
    (code,) = blocks("python")
    code = code.replace("localhost:8000", f"localhost:{server.port}")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["7", "1"], done.stderr
