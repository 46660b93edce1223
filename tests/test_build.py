"""The build: packaged files, lock files, files that git ignores, and allowed imports."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("digits", "tasks", "flows")
# Each lock file, and the extras that it adds to the runtime dependencies.
LOCKS = {
    "requirements.txt": (),
    "requirements-dev.txt": ("dev", "export", "mlflow"),
    "requirements-export.txt": ("export",),
    "requirements-gpu.txt": ("gpu",),
    "requirements-mlflow.txt": ("mlflow",),
}
PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)(?:\[[a-z0-9, -]+\])?==([^ ;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """Return the pinned versions by name; several if they depend on the interpreter."""
    versions: dict[str, set[str]] = {}
    for name, version in PIN.findall((ROOT / lock).read_text()):
        versions.setdefault(name, set()).add(version)
    return versions


def imported_libraries(folder: Path) -> Iterator[str]:
    """Yield the top-level names of the libraries that a folder's modules import."""
    own = {*PACKAGES, *sys.stdlib_module_names}
    if folder.name not in PACKAGES:
        own |= {"tests", "benchmarks"}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            yield from {name.partition(".")[0] for name in names} - own


def test_every_package_is_listed() -> None:
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for init in (ROOT / package).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_every_data_file_of_a_package_is_shipped() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for package in PACKAGES:
        shipped = {file for p in patterns.get(package, ()) for file in (ROOT / package).glob(p)}
        data = {
            file
            for file in (ROOT / package).rglob("*")
            if file.is_file() and file.suffix not in {".py", ".pyc"}
        }
        assert data <= shipped


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel of the project installs into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in (*PACKAGES, "data/datasets"):
        shutil.copytree(
            ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "wrong.py")
        )
    for name in ("pyproject.toml", "setup.py", "prefect.yaml", "automations.yaml"):
        shutil.copy(ROOT / name, sources)
    options = ["--disable-pip-version-check", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", *options, "-w", folder, sources]
    subprocess.run(command, check=True, timeout=200)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site-packages")
    return folder / "site-packages"


def call_installed(
    installed: Path, folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `digits ARGUMENTS` of the wheel in a folder, as a fresh shell would."""
    ours = ("DIGITS_", "PREFECT_", "KERAS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-P", "-c", "from flows.cli import main; main()", *arguments],
        cwd=folder,
        env=kept
        | {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
        | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_an_installed_wheel_works_from_any_folder_and_leaves_itself_alone(
    installed: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in installed.rglob("*")}
    (tmp_path / ".env").write_text("DIGITS_ARTIFACTS_DIR=results\n")

    status = call_installed(installed, tmp_path, "status")
    plan = call_installed(installed, tmp_path, "plan")
    # Writes the lock and lists the folders of the workspace.
    gc = call_installed(installed, tmp_path, "gc")

    assert status.stdout == "mnist has no champion yet; `digits run` makes one\n", status.stderr
    assert plan.stdout.startswith("ingest        runs     it never ran"), plan.stderr
    assert gc.returncode == 0, gc.stderr
    assert (tmp_path / "results").is_dir()
    assert {path: path.stat().st_mtime_ns for path in installed.rglob("*")} == before


def test_an_installed_wheel_keeps_its_workspace_in_digits_home(
    installed: Path, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "data" / "datasets").mkdir(parents=True)
    elsewhere.mkdir()
    shutil.copy(ROOT / "data/datasets/mnist.toml", home / "data/datasets/mine.toml")

    status = call_installed(
        installed, elsewhere, "status", "--dataset", "mine", DIGITS_HOME=str(home)
    )

    assert status.returncode == 0, status.stderr
    assert list(elsewhere.iterdir()) == []


def test_an_installed_wheel_can_register_its_deployments(installed: Path, tmp_path: Path) -> None:
    code = "from digits.settings import PROJECT; print(PROJECT)"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    project = Path(shown.stdout.strip())
    for name in ("prefect.yaml", "automations.yaml"):
        assert (project / name).read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("digits", ("export", "mlflow", "optuna")),
        ("tasks", ("team",)),
        ("flows", ("ray", "team")),
        ("tests", ("dev", "export")),
    ],
)
def test_every_imported_library_is_declared(folder: str, extras: tuple[str, ...]) -> None:
    asked = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        asked += PROJECT["project"]["optional-dependencies"][extra]
    names = {canonicalize_name(Requirement(line).name) for line in asked}
    distributions = packages_distributions()
    missing = {
        library
        for library in imported_libraries(ROOT / folder)
        # A library that is not installed, such as an extra, is assumed to have its import name.
        if names.isdisjoint(map(canonicalize_name, distributions.get(library, (library,))))
    }
    assert not missing


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_file_contains_no_url_and_hashes_everything(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    assert not [line for line in lines if re.search(r"://|file:|^-|/opt|\.whl", line)]
    heads = [index for index, line in enumerate(lines) if line and line[0] not in " #"]
    assert len(heads) > 100
    for index in heads:
        assert PIN.match(lines[index]), lines[index]
        assert "--hash=sha256:" in lines[index + 1]


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_lock_file_satisfies_the_declared_dependencies(lock: str, extras: tuple[str, ...]) -> None:
    asked = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in extras:
        asked += PROJECT["project"]["optional-dependencies"][extra]
    locked = pins(lock)
    for requirement in map(Requirement, asked):
        versions = locked[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement


@pytest.mark.parametrize("lock", [name for name in LOCKS if name != "requirements.txt"])
def test_extras_do_not_change_the_runtime_pins(lock: str) -> None:
    assert pins("requirements.txt").items() <= pins(lock).items()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_tracks_sources_and_ignores_what_runs_write(tmp_path: Path) -> None:
    kept = [
        "data/README.md",
        "data/datasets/mnist.toml",
        "artifacts/README.md",
        "digits/data/raw/source.py",
        "tests/artifacts/source.py",
        "requirements.txt",
    ]
    ignored = [
        "data/raw/mnist/train-images-idx3-ubyte",
        "data/prepared/arrays/x_train.npy",
        "data/incoming/batch.parquet",
        "artifacts/ledger.jsonl",
        "artifacts/models/model.keras",
        ".venv/bin/python",
        ".env",
        ".coverage.host.1",
        "digits/__pycache__/store.cpython-311.pyc",
        "digits.egg-info/PKG-INFO",
    ]
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "check-ignore", *kept, *ignored]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ignored


@pytest.mark.parametrize(
    ("package", "imported"),
    [
        ("digits.training", "prefect"),
        ("digits.report", "tasks"),
        ("tasks", "flows"),
        ("digits.storage", "digits.training"),
        ("digits.training", "digits.cache"),
        ("digits.cache", "digits.datasets"),
        ("digits.datasets", "digits.validation"),
        ("digits.datasets.sources", "digits.datasets.formats"),
        ("digits.validation", "digits.intake"),
        ("digits.intake", "digits.registry"),
        ("digits.registry", "digits.report"),
        ("digits.report", "digits.labeling"),
    ],
)
def test_an_import_against_the_direction_is_refused(
    sources: Path, package: str, imported: str
) -> None:
    wrong = sources / package.replace(".", "/") / "wrong.py"
    wrong.write_text(f"import {imported}.wrong\n" if "." in imported else f"import {imported}\n")
    if "." in imported:
        (sources / imported.replace(".", "/") / "wrong.py").touch()
    result = lint_imports(sources)
    assert result.returncode == 1
    assert f"{package}.wrong -> {imported}" in result.stdout


def test_a_new_top_level_module_of_digits_must_be_assigned_to_a_layer(sources: Path) -> None:
    (sources / "digits" / "wrong.py").touch()
    result = lint_imports(sources)
    assert result.returncode == 1
    assert "wrong" in result.stdout


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the packages, whose imports follow the rules."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    assert lint_imports(tmp_path).returncode == 0
    return tmp_path


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)
