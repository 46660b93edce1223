import re
from base64 import b64encode
from hashlib import sha256

from starlette.testclient import TestClient

from tests.support.small_dataset import NAME


def test_the_page_may_run_its_own_script_and_nothing_else(client: TestClient) -> None:
    answer = client.get("/")

    policy = answer.headers["content-security-policy"]
    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = b64encode(sha256(block.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert re.findall(r"https?://[^'\" ]+", answer.text) == ["http://www.w3.org/2000/svg"]


def test_the_page_learns_which_champions_there_are(client: TestClient) -> None:
    (facts,) = client.get("/datasets").json()["datasets"]

    assert (facts["name"], facts["version"], facts["model"]) == (NAME, 2, "cnn")
    assert facts["class_names"] == list("0123456789")
    assert facts["image_shape"] == [12, 12]
    assert [(one["version"], one["model"]) for one in facts["compared"]] == [(2, "mlp"), (1, "cnn")]
