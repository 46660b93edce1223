"""Load a model version for use: every byte is verified first, and nothing in it is executed."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from digits.errors import DamagedError, DigitsError, NoOnnxFormError, UsageError
from digits.inference.onnx_models import OnnxModel
from digits.registry.ledger import Ledger, champion_of, find_version, forms_of
from digits.registry.onnx_files import FILE
from digits.spec import Layout, load_spec
from digits.storage.references import OnnxRef
from digits.storage.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedVersion:
    """A model version in memory: its model, and the other models of the run that promoted it.

    `digest` is that of its Keras model. `is_centered` says whether pictures are centered and scaled
    before it labels them, unless asked otherwise.
    """

    dataset: str
    number: int
    digest: str
    layout: Layout
    is_centered: bool
    model: OnnxModel
    others: tuple[OnnxModel, ...] = ()


def load_version(
    dataset: str, workspace: Workspace, number: int | None = None, *, threads: int = 1
) -> LoadedVersion:
    """Load a model version, by default the champion, after verifying every byte of it.

    `threads` is the number of threads of each model's session. Other models of its run that are
    missing or corrupted are left out. Raises UsageError if there is no such version or no champion,
    NoOnnxFormError if it has no ONNX form, DamagedError if that is corrupted, and DigitsError if
    the dataset spec now defines another image size or number of classes.
    """
    spec = load_spec(dataset, workspace.settings)
    entries = Ledger(dataset, workspace.settings).entries()
    champion = champion_of(entries)
    if champion is None:
        raise UsageError(
            f"{dataset} has no champion yet; `digits run --dataset {dataset}` makes one"
        )
    version = champion if number is None else find_version(entries, number, dataset)
    forms = forms_of(entries, version.number)
    if not forms:
        command = "run" if version == champion else f"rollback {version.number}"
        raise NoOnnxFormError(
            f"version {version.number} of {dataset} has no ONNX form, because an earlier release "
            f"of digits promoted it; `digits {command} --dataset {dataset}` makes it"
        )
    loaded = LoadedVersion(
        dataset=dataset,
        number=version.number,
        digest=version.model.digest,
        layout=spec.layout,
        is_centered=spec.centered,
        model=_load(forms[0], workspace, threads),
        others=tuple(_others(forms[1:], workspace, threads)),
    )
    _check_shape(loaded)
    return loaded


def _load(form: OnnxRef, workspace: Workspace, threads: int) -> OnnxModel:
    content = workspace.store.read(form, FILE)
    return OnnxModel(
        content,
        name=form.model,
        digest=form.model_digest,
        accuracy=form.accuracy,
        threads=threads,
    )


def _others(forms: Sequence[OnnxRef], workspace: Workspace, threads: int) -> Iterator[OnnxModel]:
    for form in forms:
        try:
            yield _load(form, workspace, threads)
        except DamagedError as error:
            logger.warning("the %s is left out: %s", form.model, error)


def _check_shape(version: LoadedVersion) -> None:
    model, layout = version.model, version.layout
    if (model.image_shape, model.num_classes) != (layout.image_shape, layout.num_classes):
        found, expected = (
            f"{'x'.join(map(str, one.image_shape))} images of {one.num_classes} classes"
            for one in (model, layout)
        )
        raise DigitsError(
            f"version {version.number} of {version.dataset} does not match the dataset spec: it "
            f"was trained on {found} (expected {expected}); `digits run --dataset "
            f"{version.dataset}` trains a new one"
        )
