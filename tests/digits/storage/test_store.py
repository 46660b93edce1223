import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from digits.errors import DamagedError, DigitsError
from digits.settings import Settings
from digits.storage.bundles import MANIFEST
from digits.storage.files import TEMPORARY
from digits.storage.references import Kind, ReportRef
from digits.storage.store import Store
from tests.support.processes import kill, result_of, start, wait_for

FILES = {"report.html": b"<!doctype html>" * 20, "more.json": b"{}"}

WRITER = """
import sys
from pathlib import Path
from digits.settings import Settings
from digits.storage.store import Store

folder = Path(sys.argv[1])
store = Store(Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts"))
with store.create("reports") as draft:
    (draft.path / "report.html").write_text("half of it")
    print("writing", flush=True)
    sys.stdin.read()
"""

# Try every size at which the disk may be full; the limit applies to each file separately.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from digits.errors import DigitsError
from digits.settings import Settings
from digits.storage.store import Store

folder = Path(sys.argv[1])
store = Store(Settings(data_dir=folder / "data", artifacts_dir=folder / "artifacts"))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in range(400):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with store.create("reports") as draft:
            (draft.path / "report.html").write_bytes(b"x" * 100)
    except DigitsError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert "cannot write to" in str(error) and "File too large" in str(error), error
        left = [path.name for path in store.root("reports").iterdir()]
        assert not left, left
    else:
        break
print(limit)
"""


def write(store: Store, files: Mapping[str, bytes] = FILES) -> ReportRef:
    with store.create("reports") as draft:
        for name, content in files.items():
            (draft.path / name).write_bytes(content)
    return ReportRef(digest=draft.digest)


def visible(store: Store, kind: Kind = "reports") -> list[str]:
    """The names of the published bundles of a kind."""
    return [path.name for path in store.root(kind).iterdir() if not path.name.startswith(".")]


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings)


def test_a_bundle_becomes_visible_only_when_it_is_complete(store: Store) -> None:
    with store.create("reports") as draft:
        (draft.path / "report.html").write_bytes(b"page")
        assert visible(store) == []

    assert visible(store) == [draft.digest]
    store.verify(ReportRef(digest=draft.digest))
    assert not draft.path.exists()


def test_data_and_results_have_separate_folders(store: Store, settings: Settings) -> None:
    assert store.root("arrays") == settings.data_dir / "prepared" / "arrays"
    assert store.root("models") == settings.artifacts_dir / "models"


def test_a_failed_step_leaves_nothing(store: Store) -> None:
    with pytest.raises(IsADirectoryError), store.create("reports") as draft:  # noqa: PT012
        (draft.path / "report.html").write_bytes(b"page")
        draft.path.read_bytes()

    assert list(store.root("reports").iterdir()) == []


def test_equal_content_is_stored_once(store: Store) -> None:
    def identity() -> tuple[int, int]:
        # Not the time of access, which any listing of the folder may move.
        status = store.folder(first).stat()
        return status.st_ino, status.st_ctime_ns

    first = write(store)
    before = identity()

    second = write(store, dict(reversed(FILES.items())))

    assert second == first
    assert visible(store) == [first.digest]
    assert identity() == before


def test_damage_is_reported_with_the_file_and_the_difference(store: Store) -> None:
    reference = write(store)
    path = store.folder(reference) / "report.html"
    path.write_bytes(path.read_bytes()[:-1] + b"?")

    with pytest.raises(DamagedError) as caught:
        store.verify(reference)

    assert str(caught.value).startswith(f"{path} is corrupted: its SHA-256 is ")
    assert not store.is_whole(reference)


def damage_by_a_flip(folder: Path) -> None:
    (folder / "report.html").write_bytes(b"?" * 300)


def damage_by_a_cut(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"")


def damage_by_a_loss(folder: Path) -> None:
    (folder / "more.json").unlink()


def damage_by_an_addition(folder: Path) -> None:
    (folder / "extra").mkdir()


def damage_by_a_file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def damage_by_a_link_to_nowhere(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("nowhere")


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_a_flip,
        damage_by_a_cut,
        damage_by_a_loss,
        damage_by_an_addition,
        damage_by_a_file_in_its_place,
        damage_by_a_link_to_nowhere,
    ],
)
def test_creating_a_damaged_bundle_again_repairs_it(
    store: Store, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    reference = write(store)
    damage(store.folder(reference))
    assert not store.is_whole(reference)

    assert write(store) == reference

    store.verify(reference)
    assert visible(store) == [reference.digest]
    assert caplog.messages == [f"{store.folder(reference)} was corrupted and is being rewritten"]


@pytest.mark.faults
def test_concurrent_writers_of_the_same_content_leave_one_intact_bundle(store: Store) -> None:
    reference = write(store)
    damage_by_a_loss(store.folder(reference))
    barrier, results = threading.Barrier(8), []

    def make() -> None:
        barrier.wait()
        # One store per thread, as in separate processes.
        results.append(write(Store(store._settings)))

    for _ in range(20):
        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.is_whole(reference)
        damage_by_a_loss(store.folder(reference))

    assert results == [reference] * 160


@pytest.mark.faults
def test_a_killed_writers_draft_is_invisible_and_deleted_by_the_next_writer(
    store: Store, tmp_path: Path
) -> None:
    writer = start(WRITER, tmp_path)
    wait_for(writer, "writing")
    kill(writer)
    assert writer.returncode == -signal.SIGKILL
    assert [path.name for path in store.root("reports").glob(f"{TEMPORARY}*")]
    assert visible(store) == []

    reference = write(store)

    assert list(store.root("reports").glob(f"{TEMPORARY}*")) == []
    assert visible(store) == [reference.digest]


@pytest.mark.faults
def test_the_draft_of_a_living_writer_is_left_alone(store: Store, tmp_path: Path) -> None:
    writer = start(WRITER, tmp_path)
    wait_for(writer, "writing")

    reference = write(store)
    assert store.contents("reports") == [store.folder(reference)]
    _, errors = writer.communicate("")

    assert writer.returncode == 0, errors
    assert len(visible(store)) == 2


@pytest.mark.faults
def test_a_full_disk_gives_a_clear_error_and_nothing_is_visible(
    store: Store, tmp_path: Path
) -> None:
    limit = int(result_of(ON_A_FULL_DISK, tmp_path))

    (name,) = visible(store)
    sizes = [path.stat().st_size for path in (store.root("reports") / name).iterdir()]
    # The first limit at which every file fits.
    assert limit == max(sizes)


def test_an_unwritable_disk_gives_a_clear_error() -> None:
    # Nobody, not even root, can create a folder there.
    store = Store(Settings(artifacts_dir=Path("/sys/digits")))

    with pytest.raises(DigitsError, match="cannot write to /sys/digits/reports: "):
        write(store)


def test_an_unrelated_error_is_not_reported_as_a_full_disk(store: Store) -> None:
    with pytest.raises(PermissionError), store.create("reports"):
        raise PermissionError(13, "Permission denied", "/another/file")


def test_contents_include_bundles_and_drafts_of_killed_writers(
    store: Store, tmp_path: Path
) -> None:
    assert store.contents("reports") == []
    reference = write(store)
    writer = start(WRITER, tmp_path)
    wait_for(writer, "writing")
    kill(writer)

    leftover, bundle = store.contents("reports")

    assert bundle == store.folder(reference)
    assert leftover.name.startswith(TEMPORARY)
    for path in (leftover, bundle):
        store.discard(path)
    assert store.contents("reports") == []


def test_a_bundle_is_hidden_before_its_first_file_is_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = write(store)

    def killed(path: Path, **_: object) -> None:
        (path / "report.html").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("digits.storage.store.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.discard(store.folder(reference))

    assert visible(store) == []
