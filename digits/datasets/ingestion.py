"""Ingest: turn distributed files into a typed dataset in the store."""

import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from digits.datasets.defects import Defects
from digits.datasets.formats.chunks import LabeledChunk, RowNames
from digits.datasets.formats.readers import read_files
from digits.datasets.formats.validation_data import validation_parts
from digits.datasets.images import Images, Labels, SplitWriter, content_digest
from digits.datasets.kept_batches import read_batch
from digits.datasets.sources.content import Content, opened
from digits.datasets.splits import is_test
from digits.datasets.versions import DatasetVersions
from digits.errors import DataError
from digits.spec import DatasetSpec, Layout, ReadOptions
from digits.storage.records import canonical_digest
from digits.storage.references import DatasetRef
from digits.storage.workspace import Workspace
from digits.thresholds import SPLITS, Split

logger = logging.getLogger(__name__)


def ingest_dataset(
    layout: Layout,
    content: Content,
    read_options: ReadOptions,
    spec: DatasetSpec,
    workspace: Workspace,
    *,
    added: Collection[str] = (),
) -> DatasetRef:
    """Obtain the files of `spec`, check them, and store train.parquet and test.parquet.

    `content` gives the SHA-256 that each file must have, `added` the digests of the batches that
    follow them. Images are streamed: only a few thousand are in memory at a time. Raises DataError
    if files or batches are missing or invalid.
    """
    with workspace.store.create("datasets") as draft:
        chunks = chain(
            read_source(layout, content, read_options, spec, workspace),
            read_added(added, layout, DatasetVersions(spec.name, workspace.settings)),
        )
        counts = write_splits(chunks, layout, read_options.test_share, draft.path)
        digests = {
            split: content_digest(draft.path / f"{split}.parquet", layout) for split in SPLITS
        }
        _check(counts, spec.name)
    return DatasetRef(
        digest=draft.digest,
        layout=layout,
        num_train=counts["train"],
        num_test=counts["test"],
        content_digest=canonical_digest(
            [layout.model_dump(mode="json"), digests["train"], digests["test"]]
        ),
        test_digest=digests["test"],
    )


def read_source(
    layout: Layout,
    content: Content,
    read_options: ReadOptions,
    spec: DatasetSpec,
    workspace: Workspace,
) -> Iterator[LabeledChunk]:
    """Yield the images of a dataset spec's files; raises like ingest_dataset."""
    with opened(spec, content, workspace.settings) as files:
        parts = validation_parts(read_options.file_layout, files)
        if parts:
            becomes = "is training data" if read_options.validation == "train" else "is left out"
            logger.info("validation data of %s (%s) %s", spec.name, ", ".join(parts[:3]), becomes)
        defects = Defects(read_options.severity)
        yield from read_files(files, layout, read_options, defects)
        defects.enforce()


def read_added(
    added: Collection[str], layout: Layout, versions: DatasetVersions
) -> Iterator[LabeledChunk]:
    """Yield the images of batches by digest; raises DataError for a missing or corrupted one."""
    for change in versions.kept(added):
        for images, labels in read_batch(change, versions, layout):
            names = RowNames(f"batch {change.batch[:12]}", range(len(labels)))
            yield LabeledChunk(images=images, labels=labels, split=None, names=names)


def split_rows(chunk: LabeledChunk, test_share: float) -> Iterator[tuple[Split, Images, Labels]]:
    """Yield the images and labels of each split in a chunk."""
    if chunk.split is not None:
        yield chunk.split, chunk.images, chunk.labels
        return
    test = is_test(chunk.images, test_share)
    yield "train", chunk.images[~test], chunk.labels[~test]
    yield "test", chunk.images[test], chunk.labels[test]


def write_splits(
    chunks: Iterable[LabeledChunk], layout: Layout, test_share: float, folder: Path
) -> dict[Split, int]:
    """Write train.parquet and test.parquet; return the number of images in each.

    Chunks without a split are divided by a hash of each image's pixels.
    """
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(SplitWriter(folder / f"{split}.parquet", layout.image_shape))
            for split in SPLITS
        }
        for chunk in chunks:
            for split, images, labels in split_rows(chunk, test_share):
                writers[split].write(images, labels)
    return {split: writer.num_images for split, writer in writers.items()}


def _check(counts: dict[Split, int], name: str) -> None:
    for split, count in counts.items():
        if not count:
            found = ", ".join(f"{count:,} for {split}" for split, count in counts.items())
            raise DataError(
                f"the files of {name} contain no image for {split}: found {found}, expected at "
                "least one per class"
            )
