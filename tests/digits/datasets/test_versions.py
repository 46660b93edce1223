import pytest

from digits.datasets.growth import Growth, SplitGrowth
from digits.datasets.versions import Change, DatasetVersions
from digits.errors import LedgerError, UsageError
from digits.settings import Settings
from tests.support.small_dataset import NAME

A, B = "a" * 64, "b" * 64
GROWTH = Growth(
    train=SplitGrowth(class_sizes=(3, 1), near_duplicates=1), test=SplitGrowth(class_sizes=(0, 2))
)


@pytest.fixture
def versions(settings: Settings) -> DatasetVersions:
    return DatasetVersions(NAME, settings)


def add(versions: DatasetVersions, batch: str) -> Change:
    with versions.changing() as changing:
        return changing.add(
            batch, manifest=batch, source=f"{batch[:1]}.npz", files={}, growth=GROWTH
        )


def remove(versions: DatasetVersions, batch: str) -> Change:
    with versions.changing() as changing:
        return changing.remove(batch)


def test_a_dataset_without_batches_is_version_1(versions: DatasetVersions) -> None:
    version = versions.current()

    assert (version.number, version.batches, version.content) == (1, (), {})
    assert version.growth == Growth()
    assert version.describe() == "dataset version 1"


def test_each_change_creates_a_version(versions: DatasetVersions) -> None:
    assert add(versions, A).version == 2
    assert add(versions, B).version == 3

    version = versions.current()
    assert version.number == 3
    assert version.content == {"batch 0001": A, "batch 0002": B}
    assert version.growth.train == SplitGrowth(class_sizes=(6, 2), near_duplicates=2)
    assert version.growth.test.num_images == 4
    assert version.describe() == "dataset version 3, 2 batches"


def test_a_removed_batch_is_gone_and_can_be_added_again(versions: DatasetVersions) -> None:
    add(versions, A)
    add(versions, B)

    removed = remove(versions, "aaaa")

    assert (removed.batch, removed.action, removed.version) == (A, "removed", 4)
    assert versions.current().content == {"batch 0001": B}
    add(versions, A)
    assert versions.current().content == {"batch 0001": B, "batch 0002": A}
    assert versions.current().number == 5


@pytest.mark.parametrize("batch", ["c", ""])
def test_only_an_existing_batch_can_be_removed(versions: DatasetVersions, batch: str) -> None:
    add(versions, A)

    with pytest.raises(UsageError, match=rf"no batch '{batch}' \(batches: aaaaaaaaaaaa\)"):
        remove(versions, batch)
    assert versions.current().number == 2


def test_an_ambiguous_prefix_is_refused(versions: DatasetVersions) -> None:
    add(versions, A)
    add(versions, A[:-1] + "b")

    with pytest.raises(UsageError, match="2 batches that start with 'aa'"):
        remove(versions, "aa")


def test_an_altered_line_is_refused(versions: DatasetVersions) -> None:
    add(versions, A)
    content = versions.folder.with_suffix(".jsonl").read_bytes()
    versions.folder.with_suffix(".jsonl").write_bytes(content.replace(b"a.npz", b"b.npz"))

    with pytest.raises(LedgerError, match=r"handwriting\.jsonl line 1 is corrupted"):
        versions.current()


def test_a_line_without_a_seal_is_refused(versions: DatasetVersions) -> None:
    add(versions, A)
    text = versions.folder.with_suffix(".jsonl").read_bytes().replace(b'"format":2', b'"format":1')
    versions.folder.with_suffix(".head").unlink()
    versions.folder.with_suffix(".jsonl").write_bytes(text)

    with pytest.raises(LedgerError, match="line 1 is corrupted"):
        versions.current()


def test_a_line_of_another_dataset_is_refused(
    versions: DatasetVersions, settings: Settings
) -> None:
    add(DatasetVersions("other", settings), A)
    DatasetVersions("other", settings).folder.with_suffix(".jsonl").rename(
        versions.folder.with_suffix(".jsonl")
    )

    with pytest.raises(
        LedgerError, match="line 1 is for version 2 of other, expected version 2 of hand"
    ):
        versions.current()
