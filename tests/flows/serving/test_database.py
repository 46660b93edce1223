"""A database that Prefect's server cannot use is reported in one line, before the server starts."""

import os
import random
import sqlite3
from pathlib import Path
from urllib.parse import unquote

import pytest

from digits.errors import DigitsError
from digits.settings import Settings
from flows.serving.database import SETTINGS, check_database, move_database_aside, name_database
from tests.flows.conftest import REQUEST
from tests.support.commands import run_digits
from tests.support.permissions import mode


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server's database belongs; not there yet."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", raising=False)
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    return tmp_path / "prefect.db"


def write(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


VERSIONED = "CREATE TABLE alembic_version (version_num)"


def refusal() -> str:
    with pytest.raises(DigitsError) as refused:
        check_database()
    said = str(refused.value)
    assert "\n" not in said
    return said


def test_a_missing_empty_or_known_database_is_used(database: Path) -> None:
    check_database()
    database.touch()
    check_database()
    database.unlink()
    # The first revision that Prefect ever had.
    write(database, VERSIONED, "INSERT INTO alembic_version VALUES ('9725c1cbee35')")
    check_database()


def test_a_database_of_another_version_is_named(database: Path) -> None:
    write(database, VERSIONED, "INSERT INTO alembic_version VALUES ('ffff00001111')")
    said = refusal()
    assert "another version of Prefect (revision ffff00001111)" in said
    assert "models and decisions are safe" in said
    assert "--new-database" in said


def test_a_file_of_something_else_is_named(database: Path) -> None:
    database.write_bytes(random.Random(1).randbytes(5000))
    assert "is not a database of Prefect's" in refusal()
    database.unlink()
    write(database, "CREATE TABLE recipes (name)")
    assert "the database of another program" in refusal()
    write(database, VERSIONED)
    assert "is not a database of Prefect's" in refusal()
    database.unlink()
    database.mkdir()
    assert "is not a file" in refusal()


def test_a_database_that_cannot_be_written_is_named(database: Path) -> None:
    write(database, VERSIONED, "INSERT INTO alembic_version VALUES ('9725c1cbee35')")
    with mode(database, 0o400):
        assert "is not writable (Permission denied)" in refusal()


def test_another_database_by_a_setting_is_not_looked_at(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.mkdir()
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://there")
    check_database()


def test_a_database_is_moved_aside_with_its_journals(database: Path) -> None:
    assert move_database_aside() is None
    names = ("prefect.db", "prefect.db-wal", "prefect.db-shm")
    for name in names:
        database.with_name(name).write_text(name)
    aside = move_database_aside()
    assert aside is not None
    contents = {path.read_text() for path in database.parent.iterdir()}
    assert contents == set(names)
    assert not any(database.with_name(name).exists() for name in names)
    assert aside.read_text() == "prefect.db"
    assert aside.with_name(f"{aside.name}-wal").read_text() == "prefect.db-wal"


def test_a_run_says_so_at_once_and_reading_still_works(small_dataset: Settings) -> None:
    home = small_dataset.artifacts_dir / "prefect"
    home.mkdir(parents=True)
    (home / "prefect.db").write_bytes(b"not SQLite, but long enough to have a header" * 100)
    result = run_digits(small_dataset, "run", *REQUEST)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {home / 'prefect.db'} is not a")
    assert "starting Prefect's server" not in result.stderr
    assert run_digits(small_dataset, "status", *REQUEST[:2]).returncode == 0


@pytest.mark.parametrize("folder", ["what?", "50%41", "neu ö #2 100%"])
def test_the_server_is_given_the_databases_own_path(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / folder))
    name_database()
    # SQLAlchemy decodes what precedes a question mark.
    path, *query = os.environ[SETTINGS[0]].removeprefix("sqlite+aiosqlite:///").split("?")
    assert unquote(path) == str(tmp_path / folder / "prefect.db")
    assert not query


@pytest.mark.usefixtures("database")
def test_a_database_that_a_setting_names_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS[1], "postgresql+asyncpg://there")
    name_database()
    assert SETTINGS[0] not in os.environ
