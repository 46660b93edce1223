import subprocess
import sys
import tomllib

import pytest
from pydantic import ValidationError

from digits.thresholds import SplitThresholds, Thresholds

CENTROIDS = {"name": "mnist.centroids.npy", "sha256": "0" * 64}


def test_every_bound_is_off_by_default() -> None:
    thresholds = Thresholds()

    assert thresholds.of("train") == thresholds.of("test") == SplitThresholds()
    assert set(SplitThresholds().model_dump().values()) == {None}


def test_the_table_of_a_spec_is_read() -> None:
    table = tomllib.loads(
        """
        max_label_divergence = 0.003
        severity.near_duplicates = "warning"
        severity.corrupt_file = "off"
        train.max_ink = 0.4
        test.num_images = 10000
        """
    )

    thresholds = Thresholds.model_validate(table)

    assert thresholds.of("train").max_ink == 0.4
    assert thresholds.of("test").num_images == 10000
    assert thresholds.severity_of("near_duplicates") == "warning"
    assert thresholds.severity_of("corrupt_file") == "off"
    assert thresholds.severity_of("ink") == "error"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"max_divergence": 1}, "Extra inputs"),
        ({"train": {"max_inc": 0.4}}, "unknown key 'max_inc'"),
        ({"train": {"max_ink": 40}}, r"max_ink = 40 is out of range \(expected 0 to 1\)"),
        ({"train": {"min_ink": 0.4, "max_ink": 0.2}}, "min_ink = 0.4 is above max_ink = 0.2"),
        ({"test": {"min_class_size": 9, "max_class_size": 8}}, "above max_class_size"),
        ({"test": {"num_images": 0}}, "greater than 0"),
        ({"severity": {"prettiness": "warning"}}, "unknown check 'prettiness'"),
        ({"severity": {"ink": "fatal"}}, "'error', 'warning' or 'off'"),
        ({"test": {"min_centroid_accuracy": 0.8}}, "needs a .thresholds.centroids. table"),
        ({"centroids": CENTROIDS | {"name": "../secret.npy"}}, "match pattern"),
        ({"centroids": CENTROIDS | {"name": ".hidden.npy"}}, "match pattern"),
        ({"centroids": CENTROIDS | {"sha256": "0"}}, "match pattern"),
    ],
)
def test_an_invalid_table_is_rejected(table: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Thresholds.model_validate(table)


def test_reading_thresholds_imports_no_heavy_libraries() -> None:
    code = (
        "import sys, digits.validation.findings, digits.thresholds;"
        "heavy = {'great_expectations', 'pandas', 'pyarrow', 'numpy', 'jinja2'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (result.returncode, result.stderr) == (0, "")
