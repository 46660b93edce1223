import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.inference.loaded_versions import load_version
from digits.registry.history import roll_back
from digits.registry.ledger import Ledger, forms_of
from digits.server import served_models
from digits.server.metrics import Metrics
from digits.server.refusals import Refusal
from digits.server.served_models import MAX_KEPT, ServedModels
from digits.settings import Settings
from digits.storage.workspace import Workspace
from tests.support.handwriting import SHAPE
from tests.support.served_versions import promote_version, write_served_dataset
from tests.support.small_dataset import NAME


@pytest.fixture(autouse=True)
def retried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_models, "RETRY_SECONDS", 0.0)


def models_of(settings: Settings, names: tuple[str, ...] | None = (NAME,)) -> ServedModels:
    models = ServedModels(names, Workspace(settings), Metrics())
    models.look()
    return models


def number_of(models: ServedModels) -> int:
    return models.champion(NAME).version.number


def form_of(settings: Settings, number: int) -> Path:
    """The file of a version's ONNX form."""
    form = forms_of(Ledger(NAME, settings).entries(), number)[0]
    return Workspace(settings).store.folder(form) / "model.onnx"


def test_a_promotion_and_a_rollback_are_put_into_service(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    models = models_of(served_dataset)
    assert number_of(models) == 1
    assert not models.may_have_news
    promote_version(served_dataset, 2)
    assert models.may_have_news
    models.look()
    assert number_of(models) == 2
    roll_back(NAME, 1, "by hand", Workspace(served_dataset))
    models.look()
    assert number_of(models) == 1


def test_a_new_history_replaces_versions_of_the_same_numbers(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    promote_version(served_dataset, 2)
    models = models_of(served_dataset)

    def digests() -> tuple[str, str]:
        earlier = asyncio.run(models.version(NAME, 1))
        return models.champion(NAME).version.digest, earlier.version.digest

    before = digests()
    ledger = Ledger(NAME, served_dataset)
    ledger.path.unlink()
    ledger.path.with_suffix(".head").unlink()
    promote_version(served_dataset, 3)
    promote_version(served_dataset, 4)
    models.look()
    versions = ledger.versions()
    assert digests() == (versions[2].model.digest, versions[1].model.digest)
    assert not set(digests()) & set(before)


def test_a_request_ends_on_the_version_that_it_began_with(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    models = models_of(served_dataset)
    pixels = np.ones((2, *SHAPE, 1), np.float32)

    async def answers() -> list[Any]:
        first = models.champion(NAME)
        waiting = asyncio.create_task(first.batcher.compute(pixels))
        await asyncio.sleep(0)  # it waits for its batch
        promote_version(served_dataset, 2)
        models.look()
        later = models.champion(NAME).batcher.compute(pixels)
        return [one.argmax(axis=1).tolist() for one in await asyncio.gather(waiting, later)]

    assert asyncio.run(answers()) == [[1, 1], [2, 2]]


def test_a_version_that_is_corrupted_is_not_served_until_it_is_restored(
    served_dataset: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    promote_version(served_dataset, 1)
    models = models_of(served_dataset)
    promote_version(served_dataset, 2)
    path = form_of(served_dataset, 2)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    models.look()
    models.look()
    assert number_of(models) == 1
    assert models.is_ready
    assert "model.onnx" in str(models.slots[NAME].problem)
    assert sum("cannot serve" in line for line in caplog.messages) == 1  # not with every attempt
    path.write_bytes(content)
    models.look()
    assert number_of(models) == 2
    assert models.slots[NAME].problem is None


def test_a_first_champion_is_served_when_there_is_one(served_dataset: Settings) -> None:
    models = models_of(served_dataset)
    assert not models.is_ready
    with pytest.raises(Refusal, match=f"not ready: {NAME} has no champion yet; `digits run") as no:
        models.champion(NAME)
    assert no.value.status == 503
    promote_version(served_dataset, 1)
    models.look()
    assert number_of(models) == 1


def test_a_version_without_an_onnx_form_says_what_makes_it(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1, has_forms=False)
    models = models_of(served_dataset)
    with pytest.raises(Refusal, match=r"has no ONNX form.*`digits run"):
        models.champion(NAME)


def test_a_damaged_ledger_leaves_the_version_in_service(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    models = models_of(served_dataset)
    ledger = served_dataset.artifacts_dir / "ledger" / f"{NAME}.jsonl"
    ledger.write_bytes(b"{}\n")
    models.look()
    assert number_of(models) == 1
    assert "line 1" in str(models.slots[NAME].problem)


def test_an_error_that_nobody_foresaw_leaves_the_version_in_service(
    served_dataset: Settings,
) -> None:
    promote_version(served_dataset, 1)
    outcomes = iter([None, RuntimeError("surprise"), None])

    def load(name: str, workspace: Workspace, number: int) -> Any:
        if error := next(outcomes):
            raise error
        return load_version(name, workspace, number)

    models = ServedModels((NAME,), Workspace(served_dataset), Metrics(), load)
    models.look()
    promote_version(served_dataset, 2)
    models.look()
    assert (number_of(models), models.slots[NAME].problem) == (1, "surprise")
    models.look()
    assert (number_of(models), models.slots[NAME].problem) == (2, None)


def test_all_datasets_with_a_champion_are_served_also_new_ones(served_dataset: Settings) -> None:
    models = models_of(served_dataset, None)
    assert not models.is_ready
    promote_version(served_dataset, 1)
    write_served_dataset(served_dataset, "another")
    promote_version(served_dataset, 2, "another")
    models.look()
    assert sorted(models.slots) == ["another", NAME]
    assert models.is_ready


def test_earlier_versions_are_verified_when_they_are_asked_for(served_dataset: Settings) -> None:
    promote_version(served_dataset, 1)
    promote_version(served_dataset, 2)
    models = models_of(served_dataset)
    shutil.rmtree(form_of(served_dataset, 1).parent)
    with pytest.raises(Refusal, match=f"version 1 of {NAME} cannot be served") as no:
        asyncio.run(models.version(NAME, 1))
    assert no.value.status == 503
    assert models.is_ready


def test_earlier_versions_are_loaded_once_and_few_are_kept(served_dataset: Settings) -> None:
    for label in range(MAX_KEPT + 2):
        promote_version(served_dataset, label)
    loaded: list[int] = []

    def load(name: str, workspace: Workspace, number: int) -> Any:
        loaded.append(number)
        return load_version(name, workspace, number)

    models = ServedModels((NAME,), Workspace(served_dataset), Metrics(), load)
    models.look()
    loaded.clear()

    async def ask(*numbers: int) -> None:
        found = await asyncio.gather(*(models.version(NAME, number) for number in numbers))
        assert [one.version.number for one in found] == list(numbers)

    async def ask_all() -> None:
        await ask(1, 1, 1)
        assert loaded == [1]
        await ask(*range(1, MAX_KEPT + 2))
        await ask(1)  # the oldest was dropped
        assert loaded == [*range(1, MAX_KEPT + 2), 1]

    asyncio.run(ask_all())
