"""The predict flow on a real Prefect server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from digits.settings import ROOT, Settings
from tests.support.champions import crown
from tests.support.handwriting import make_splits
from tests.support.small_dataset import NAME

IMAGES, LABELS = make_splits()["test"]
RUN = f"""
import asyncio, json, sys
from pathlib import Path
from digits.settings import Settings
from flows.environment import prepare_environment, prepare_folders

prepare_environment(Settings())
prepare_folders(Settings())
from prefect.client.orchestration import get_client
from flows.predict import predict

report = predict(folder=Path(sys.argv[1]), dataset={NAME!r}, as_is=True)

async def pages():
    async with get_client() as client:
        return [artifact.data for artifact in await client.read_artifacts()]

print(json.dumps([report.model_dump(mode="json"), asyncio.run(pages())]))
"""


@pytest.mark.e2e
def test_a_folder_becomes_a_table_and_a_dashboard_page(settings: Settings, tmp_path: Path) -> None:
    crown(settings)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(IMAGES[:50]):
        Image.fromarray(image).save(folder / f"{number:02}.png")

    result = subprocess.run(
        [sys.executable, "-c", RUN, folder],
        cwd=ROOT,
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "DIGITS_DATA_DIR": str(settings.data_dir),
            "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
            "PREFECT_HOME": str(tmp_path / "prefect"),
        },
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
    report, pages = json.loads(result.stdout.splitlines()[-1])
    table = pq.read_table(report["path"])
    assert Path(report["path"]).parent == settings.artifacts_dir / "predictions"
    assert table["label"].to_pylist() == LABELS[:50].tolist()
    assert report["num_refused"] == 0
    (page,) = pages
    assert "**50** images labeled by version 1 of handwriting" in page
