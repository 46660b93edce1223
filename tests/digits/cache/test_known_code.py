import shutil
from pathlib import Path

import pytest

from digits.cache import known_code
from digits.cache.fingerprint import Project
from digits.cache.known_code import KnownCode
from digits.settings import Settings
from tests.support.histories import digest

ROOTS, WITHOUT = ("app.step:run",), ("app.step:show",)
CODE = {"app/step.py: run": digest("run")}


def kept(settings: Settings, sources: str = "sources") -> Path:
    """Return the cache file that a process wrote."""
    known = KnownCode(digest(sources), settings)
    known.add(ROOTS, WITHOUT, CODE)
    known.keep()
    return settings.artifacts_dir / "cache" / "code.json"


def test_the_next_process_with_the_same_sources_uses_the_cache(settings: Settings) -> None:
    kept(settings)

    known = KnownCode(digest("sources"), settings)

    assert known.get(ROOTS, WITHOUT) == CODE
    assert known.get(ROOTS, ()) is None
    assert known.get((*ROOTS, *WITHOUT), WITHOUT) is None


def test_other_sources_are_not_cached(settings: Settings) -> None:
    kept(settings)

    assert KnownCode(digest("edited"), settings).get(ROOTS, WITHOUT) is None


def test_another_version_of_python_does_not_use_the_cache(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(settings)
    monkeypatch.setattr(known_code, "PYTHON", "3.99")

    assert KnownCode(digest("sources"), settings).get(ROOTS, WITHOUT) is None


@pytest.mark.parametrize("damage", ["truncated", "altered", "other format", "empty"])
def test_a_corrupted_file_is_ignored(damage: str, settings: Settings) -> None:
    path = kept(settings)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-5])
    elif damage == "altered":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"[]" if damage == "other format" else b"")

    assert KnownCode(digest("sources"), settings).get(ROOTS, WITHOUT) is None


def test_an_unwritable_folder_is_not_an_error(settings: Settings) -> None:
    settings.artifacts_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.artifacts_dir.write_text("not a folder")

    known = KnownCode(digest("sources"), settings)
    known.add(ROOTS, WITHOUT, CODE)
    known.keep()

    assert known.get(ROOTS, WITHOUT) == CODE


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "step.py").write_text("def run():\n    return 1\n")
    (tmp_path / "app" / "page.html").write_text("<p>")
    return tmp_path


@pytest.mark.parametrize("edit", ["a body", "a comment", "a page", "a new file", "a deleted file"])
def test_every_edit_changes_the_digest_of_the_sources(edit: str, sources: Path) -> None:
    before = Project(sources, ("app",)).digest()
    assert Project(sources, ("app",)).digest() == before
    folder = sources / "app"
    if edit == "a body":
        (folder / "step.py").write_text("def run():\n    return 2\n")
    elif edit == "a comment":
        (folder / "step.py").write_text("def run():\n    return 1  # one\n")
    elif edit == "a page":
        (folder / "page.html").write_text("<b>")
    elif edit == "a new file":
        shutil.copy(folder / "step.py", folder / "steps.py")
    else:
        (folder / "page.html").unlink()

    assert Project(sources, ("app",)).digest() != before
