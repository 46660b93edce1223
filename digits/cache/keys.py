"""The steps and their cache keys, computed without running them.

A key covers everything that a step's output depends on: the step's name, the content of its inputs,
its settings, the code that it reaches, and the versions of the libraries and the environment
variables that affect its output. The kind of device is an argument of the steps that depend on it.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel

from digits.cache.fingerprint import Project
from digits.cache.known_code import KnownCode
from digits.settings import ROOT, Settings
from digits.spec import ReadOptions
from digits.storage.records import StepKey
from digits.storage.references import Reference
from digits.training.devices import CUDA_PACKAGES, backend
from digits.training.variables import keyed_variables

Arguments = Mapping[str, Any]

# Code that decides where results are stored and how they are shown, but never what they are:
# editing it makes no step run again. MANIFEST_FORM does count, since bundle digests depend on it.
PLUMBING = (
    "digits.training.checkpoints:Checkpoint",
    "digits.training.devices:device_for_one",
    "digits.storage.locks:hold",
    "digits.progress:Progress",
    "digits.progress:transfer",
    "digits.settings:Settings",
    "digits.storage.store:Store",
    "digits.training.streams:native_errors_in",
    "digits.datasets.formats.validation_data:validation_parts",
    "digits.datasets.versions:DatasetVersions",
    "digits.datasets.kept_batches:verify_batch",
    "digits.storage.workspace:Workspace",
    "digits.storage.workspace:current_workspace",
    "tasks.caching:current_key",
)
# Of a registry, only the entry that a step is called with counts, as a run would resolve it.
REGISTRIES = ("digits.layouts:LAYOUTS", "digits.models:MODELS", "digits.thresholds:IMAGE_CHECKS")
MANIFEST_FORM = "digits.storage.bundles:seal_folder"


def _no_roots(_: Arguments) -> tuple[str, ...]:
    return ()


def _reader(arguments: Arguments) -> tuple[str, ...]:
    options = arguments.get("read_options") or ReadOptions()
    return (f"digits.layouts:LAYOUTS[{options.file_layout}].reader", "digits.layouts:FileLayout")


def _builder(arguments: Arguments) -> tuple[str, ...]:
    return (f"digits.models:MODELS[{arguments['model']}].builder", "digits.models:Model")


def _image_checks(_: Arguments) -> tuple[str, ...]:
    return ("digits.thresholds:IMAGE_CHECKS",)


@dataclass(frozen=True)
class Step:
    """What a step's output depends on in addition to its arguments.

    `ignored` arguments cannot change the output. `roots` returns the code reached through the
    arguments: entries of REGISTRIES.
    """

    name: str
    libraries: tuple[str, ...]
    ignored: frozenset[str] = frozenset()
    roots: Callable[[Arguments], tuple[str, ...]] = _no_roots


STEPS: Mapping[str, Step] = {
    step.name: step
    for step in (
        Step(
            "ingest",
            libraries=("numpy", "pillow", "pyarrow"),
            ignored=frozenset({"sources"}),
            roots=_reader,
        ),
        Step(
            "validate",
            libraries=("great-expectations", "pandas", "numpy", "scipy", "jinja2"),
            roots=_image_checks,
        ),
        Step("normalize", libraries=("numpy",)),
        Step("hold_out", libraries=("numpy",)),
        Step(
            "train",
            libraries=("keras", "numpy"),
            roots=_builder,
        ),
        Step("evaluate", libraries=("keras", "numpy", "scipy", "pyarrow")),
        Step(
            "convert",
            libraries=("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx"),
            ignored=frozenset({"device"}),
        ),
        Step("report", libraries=("jinja2", "matplotlib", "numpy", "pillow", "pyarrow")),
        Step("compare", libraries=("jinja2", "matplotlib", "numpy", "scipy")),
    )
}


@cache
def project() -> Project:
    """Return the project's source files as of the first call in this process."""
    return Project(ROOT)


def step_key(name: str, arguments: Arguments) -> StepKey:
    """Return the key of a step called with these arguments."""
    step = STEPS[name]
    relevant = {key: value for key, value in arguments.items() if key not in step.ignored}
    return StepKey(
        step=name,
        inputs={key: _described(value) for key, value in sorted(relevant.items())},
        code=_code_of_step(name, arguments),
        libraries=_versions(step.libraries, str(relevant.get("device", ""))),
        variables=keyed_variables() if "keras" in step.libraries else {},
    )


def find_code(models: Iterable[str], read_options: ReadOptions) -> None:
    """Fingerprint the code of every step of a run now, before models are trained.

    In Python 3.11, two threads that build syntax trees at once raise a SystemError (gh-106905), and
    TensorFlow builds them whenever it compiles a function.
    """
    for model in models:
        for name in STEPS:
            _code_of_step(name, {"model": model, "read_options": read_options})


def _code_of_step(name: str, arguments: Arguments) -> Mapping[str, str]:
    step = STEPS[name]
    roots = (f"tasks.{name}:{name}", MANIFEST_FORM, *step.roots(arguments))
    return _code_of(project(), roots, (*PLUMBING, *REGISTRIES))


@cache
def _code_of(
    sources: Project, roots: tuple[str, ...], without: tuple[str, ...]
) -> Mapping[str, str]:
    known = _known_code(sources)
    code = known.get(roots, without)
    if code is None:
        code = sources.code_of(roots, without=without)
        known.add(roots, without, code)
    return code


def keep_known_code() -> None:
    """Save this process's code fingerprints for the next process."""
    _known_code(project()).keep()


@cache
def _known_code(sources: Project) -> KnownCode:
    return KnownCode(sources.digest(), Settings())


def step_label(name: str, parameters: Arguments) -> str:
    """Label a step as its record does: by its name, and the model if it is about one."""
    model = parameters.get("model")
    return f"{name} {getattr(model, 'model', model)}" if model else name


def _described(value: Any) -> Any:
    """An argument as JSON: references by content, settings models by their fields."""
    if isinstance(value, Reference):
        return value.content
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    return value


def _versions(libraries: tuple[str, ...], device: str) -> dict[str, str]:
    names = set(libraries)
    if "keras" in names:
        names.add(backend())
        # Results on a GPU depend on the CUDA libraries, which have their own versions.
        names |= set(CUDA_PACKAGES.get(backend(), ())) if device.startswith("gpu") else set()
    found = {name: _version(name) for name in sorted(names)}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python, **{name: number for name, number in found.items() if number}}


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
