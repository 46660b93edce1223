"""The cache policy, on a real Prefect server, with a fast step."""

import concurrent.futures
import contextvars
import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.runtime import task_run

from digits.cache import keys as digits_steps
from digits.cache.fingerprint import Project
from digits.progress import marked
from digits.settings import ROOT
from digits.storage.seals import seal, unseal
from digits.storage.workspace import Workspace
from tasks import caching
from tests.tasks import steps
from tests.tasks.steps import dataset, interludes, record_file, run, stored_file

pytestmark = pytest.mark.usefixtures("current")

MARKER = "MARKER"


class Planted:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.system, (f'touch "${MARKER}"',))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that only planted code would create."""
    path = tmp_path / "marker"
    monkeypatch.setenv(MARKER, str(path))
    return path


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_an_equal_call_is_not_executed_again() -> None:
    first, second = run("the first"), run("the second")
    assert first.was_executed
    assert not second.was_executed
    assert second.result == first.result


def test_a_hit_names_the_run_that_created_it() -> None:
    run("the first")
    (made_in,) = run("the second").journal.steps.values()
    assert made_in is not None
    assert made_in.startswith("the first of 20")


def test_a_task_run_is_named_after_its_step_and_the_mark_of_its_training() -> None:
    names: list[str] = []
    interludes.append(lambda: names.append(str(task_run.name)))
    with marked("3/20"):
        run()
    interludes.append(lambda: names.append(str(task_run.name)))
    run(of=dataset("b"))
    assert names == ["normalize 3/20", "normalize"]


def test_another_input_is_executed() -> None:
    first, second = run(), run(of=dataset("b"))
    assert second.was_executed
    assert second.result.digest != first.result.digest


def test_equal_content_has_the_same_key() -> None:
    run()
    reencoded = dataset().model_copy(update={"digest": "b" * 64, "made_by": "c" * 64})
    assert not run(of=reencoded).was_executed


def test_a_result_carries_its_cache_key(current: Workspace) -> None:
    result = run().result
    record = current.records.read(result.made_by)
    assert record is not None
    assert record.reference == result


def test_a_failed_step_is_not_cached() -> None:
    def fail() -> None:
        raise RuntimeError("in the middle")

    steps.interludes.append(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        run()
    assert run().was_executed


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, Path.unlink])
@pytest.mark.parametrize("file", [stored_file, record_file])
def test_corrupted_results_are_created_again(
    damage: Callable[[Path], None],
    file: Callable[[steps.Outcome], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = run()
    damage(file(first))
    second = run()
    assert second.was_executed
    assert second.result == first.result
    said = [message for message in caplog.messages if "the step runs again" in message]
    # A missing record leaves no trace to report.
    num_said = 0 if file is record_file and damage is Path.unlink else 1
    assert len(said) == num_said
    assert all(one.startswith(f"normalize: {file(first)}") for one in said)
    assert not run().was_executed


def test_a_missing_bundle_is_created_again() -> None:
    first = run()
    shutil.rmtree(stored_file(first).parent)
    assert run().was_executed
    assert stored_file(first).exists()


def test_a_record_of_another_key_is_not_used() -> None:
    first, second = run(), run(of=dataset("b"))
    shutil.copy(record_file(second), record_file(first))
    third = run()
    assert third.was_executed
    assert third.result == first.result


def test_a_planted_pickle_is_never_opened(marker: Path, current: Workspace) -> None:
    first = run()
    values = current.records.values
    values.mkdir(parents=True, exist_ok=True)
    (values / first.result.made_by).write_bytes(pickle.dumps(Planted()))
    metadata = {
        "storage_key": first.result.made_by,
        "expiration": None,
        "serializer": {"type": "pickle", "picklelib": "pickle", "picklelib_version": None},
        "prefect_version": "3.9.1",
        "storage_block_id": None,
    }
    record_file(first).write_text(json.dumps(metadata))
    second = run()
    assert second.was_executed
    assert second.result == first.result
    assert not marker.exists()
    # The planted pickle does work.
    pickle.loads(pickle.dumps(Planted()))
    assert marker.exists()


def test_a_planted_class_is_never_imported(
    marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os, pathlib\npathlib.Path(os.environ[{MARKER!r}]).touch()\n"
    (tmp_path / "planted.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    first = run()
    value = json.dumps({"__class__": "planted.Class", "data": {}})
    # Like an attacker who knows the format: the record's own digest is correct.
    fields = json.loads(unseal(record_file(first).read_bytes())[0])
    assert "value" in fields
    record_file(first).write_bytes(seal(fields | {"value": json.loads(value)}))
    assert run().result == first.result
    assert not marker.exists()


def test_sources_edited_during_the_run_leave_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for package in ("digits", "tasks"):
        shutil.copytree(ROOT / package, tmp_path / "sources" / package)
    project = Project(tmp_path / "sources")
    monkeypatch.setattr(digits_steps, "project", lambda: project)
    monkeypatch.setattr(caching, "project", lambda: project)

    def edit() -> None:
        with (tmp_path / "sources" / "digits" / "normalization.py").open("a") as file:
            file.write("\nEDITED = True\n")

    steps.interludes.append(edit)
    first = run()
    assert stored_file(first).exists()
    assert not record_file(first).exists()
    assert "normalize: source files changed during the run" in caplog.text
    assert run().was_executed


def test_an_unwritable_cache_does_not_stop_the_run(
    current: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    cache = current.settings.artifacts_dir / "cache"
    cache.mkdir(parents=True)
    (cache / "records").write_text("a file where a folder is needed")
    outcome = run()
    assert outcome.was_executed
    assert stored_file(outcome).exists()
    assert caplog.text.count("the step will run again") == 1
    (cache / "records").unlink()
    assert run().was_executed
    assert not run().was_executed


def test_concurrent_runs_execute_a_step_once(caplog: pytest.LogCaptureFixture) -> None:
    def wait_for_the_other() -> None:
        """Continue once the other run waits for this one or also executes the step."""
        while not ("waiting for another run" in caplog.text or not steps.interludes):
            time.sleep(0.01)

    caplog.set_level("INFO")
    steps.interludes += [wait_for_the_other, wait_for_the_other]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(contextvars.copy_context().run, run, name) for name in ("first", "second")
        ]
        outcomes = [one.result() for one in runs]
    steps.interludes.clear()
    assert sorted(outcome.was_executed for outcome in outcomes) == [False, True]
    assert outcomes[0].result == outcomes[1].result


def test_only_a_record_in_json_is_written(current: Workspace) -> None:
    outcome = run()
    assert json.loads(record_file(outcome).read_bytes())
    assert [path.name for path in current.records.root.parent.rglob("*.*")] == [
        record_file(outcome).name
    ]
