"""Settings: the two run-time folders, and the webhook that is notified of events."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[1]


def _from_root(path: Path) -> Path:
    return ROOT / path.expanduser()


# Relative to the project root rather than the current directory: otherwise a command or a worker
# started elsewhere would not find the champion.
Folder = Annotated[Path, AfterValidator(_from_root)]


class Settings(BaseSettings):
    """Settings from the environment (DIGITS_...) or from .env in the project root."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITS_",
        env_file=ROOT / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    data_dir: Folder = ROOT / "data"
    artifacts_dir: Folder = ROOT / "artifacts"
    webhook_url: SecretStr | None = None

    @property
    def raw_dir(self) -> Path:
        """The source files, exactly as distributed."""
        return self.data_dir / "raw"

    @property
    def prepared_dir(self) -> Path:
        """The datasets and arrays made from the source files."""
        return self.data_dir / "prepared"

    @property
    def datasets_dirs(self) -> tuple[Path, ...]:
        """The folders searched for dataset specs, in this order."""
        return (self.data_dir / "datasets", ROOT / "data" / "datasets")
