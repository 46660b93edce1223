from collections.abc import Iterator
from pathlib import Path

import pytest

from digits.training import processors
from digits.training.processors import instructions, processor


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Clear the caches, so that no test sees another's results."""
    for remembered in (processor, instructions):
        remembered.cache_clear()
    yield
    for remembered in (processor, instructions):
        remembered.cache_clear()


def test_a_processor_has_a_name_numbers_and_usable_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = "cpu family\t: 25\nmodel\t\t: 17\nstepping\t: 1\n"
    one = f"model name\t: AMD EPYC 9R14\n{numbers}flags\t\t: fpu avx512_bf16\n"
    monkeypatch.setattr(processors, "CPU_FACTS", tmp_path / "cpuinfo")
    processors.CPU_FACTS.write_text(f"{one}\n{one}")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)

    assert processor() == "AMD EPYC 9R14 (25-17-1), 2 cores"
    assert instructions() == {"fpu", "avx512_bf16"}


def test_a_processor_without_linux_facts_has_pythons_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "CPU_FACTS", tmp_path / "none")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("os.cpu_count", lambda: 1)

    assert processor() == "arm64, 1 core"
    assert instructions() == frozenset()
