"""Takes the screenshots of the dashboard in this folder from a running service.

make up
.venv/bin/python docs/take_pictures.py mnist
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

URL = f"http://127.0.0.1:{os.environ.get('PREFECT_SERVER_API_PORT', '4200')}"
FLAGS = ["--no-sandbox", "--disable-gpu"]
WIDTH = 1280


def newest(key: str) -> dict[str, Any]:
    """Return the newest dashboard artifact of a key that contains images, or else the newest."""
    asked = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
    found = httpx.post(f"{URL}/api/artifacts/filter", json=asked).json()
    return next((one for one in found if "data:image" in one["data"]), found[0])


def take_pictures(dataset: str, folder: Path) -> None:
    """Write a screenshot each of the run form, a run, its summary and the champion."""
    summary, champion = newest(f"retrain-{dataset}"), newest(f"champion-{dataset}")
    deployment = httpx.get(f"{URL}/api/deployments/name/retrain/retrain").json()
    pages = {
        "form": (f"/deployments/deployment/{deployment['id']}/run", 1280),
        "run": (f"/runs/flow-run/{summary['flow_run_id']}", 800),
        "summary": (f"/artifacts/artifact/{summary['id']}", 1250),
        "champion": (f"/artifacts/artifact/{champion['id']}", 600),
    }
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, (path, height) in pages.items():
            tab = chromium.new_page(viewport={"width": WIDTH, "height": height})
            tab.goto(f"{URL}{path}", wait_until="networkidle")
            tab.wait_for_timeout(2000)  # animations end
            tab.screenshot(path=folder / f"dashboard-{name}.png")
        chromium.close()


if __name__ == "__main__":
    take_pictures(sys.argv[1], Path(__file__).parent)
