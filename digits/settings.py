"""Settings: the two run-time folders, the model server, and others: a webhook, MLflow."""

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

# The folder of the packages: a checkout, or site-packages.
ROOT = Path(__file__).resolve().parents[1]
# Where a wheel has the project's other files (see setup.py).
_IN_WHEEL = ROOT / "digits_project"
IS_INSTALLED = _IN_WHEEL.is_dir()
# The folder with prefect.yaml, automations.yaml and data/datasets.
PROJECT = _IN_WHEEL if IS_INSTALLED else ROOT
# The workspace: DIGITS_HOME, else the checkout, else the current folder. Nothing is ever written
# into site-packages.
HOME = Path(os.environ.get("DIGITS_HOME") or ("" if IS_INSTALLED else ROOT)).expanduser().absolute()


def _from_home(path: Path) -> Path:
    return HOME / path.expanduser()


# Relative to the workspace rather than the current directory: otherwise a command or a worker
# started elsewhere would not find the champion.
Folder = Annotated[Path, AfterValidator(_from_home)]


class Settings(BaseSettings):
    """Settings from the environment (DIGITS_...) or from .env in the workspace."""

    model_config = SettingsConfigDict(
        env_prefix="DIGITS_",
        env_file=HOME / ".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_by_name=True,
    )

    data_dir: Folder = HOME / "data"
    artifacts_dir: Folder = HOME / "artifacts"
    # Where results lie, for all machines that set the same address; None: in the two folders above.
    store: str | None = None
    # Verified local copies of what lies in that store, up to this size.
    cache_dir: Folder = HOME / "cache"
    cache_gb: float = Field(20, gt=0)
    # How long a request to the store is tried again while the store is away.
    store_seconds: float = Field(240, gt=0)
    # What machines tell each other by: leases, and the messages of Prefect's server.
    redis_url: SecretStr | None = None
    webhook_url: SecretStr | None = None
    # MLflow's own variable; its address may contain a password.
    mlflow_tracking_uri: SecretStr | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    # The longest that a run or rollback waits for MLflow, with the start of its client.
    mlflow_seconds: float = Field(10, gt=0)
    # Where `digits sweep --trials` keeps its studies: a database's address, which may contain a
    # password. Without it, in a file.
    optuna_storage: SecretStr | None = None
    # The cluster of `digits sweep --on ray`; without it, Ray runs on this machine.
    ray_address: str | None = None
    # Whether trainings may share a GPU instead of taking turns.
    share_gpu: bool = False
    # The model server.
    api_key: SecretStr | None = None
    serve_host: str = "127.0.0.1"
    serve_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    serve_workers: Annotated[int, Field(ge=1, le=128)] = 1
    # Where people reach it; the dashboard links there. `digits up` sets it.
    serve_url: str | None = None
    serve_sample: Annotated[float, Field(ge=0, le=1)] = 0

    @property
    def results_dir(self) -> Path:
        """The folder of results: the artifacts, or the local copies of a store's objects."""
        if self.store is None:
            return self.artifacts_dir
        return self.cache_dir / hashlib.sha256(self.store.encode()).hexdigest()[:16]

    @property
    def batches_dir(self) -> Path:
        """The batches that were added to datasets."""
        return (self.data_dir if self.store is None else self.results_dir) / "batches"

    @property
    def raw_dir(self) -> Path:
        """The source files, exactly as distributed."""
        return self.data_dir / "raw"

    @property
    def prepared_dir(self) -> Path:
        """The datasets and arrays made from the source files."""
        return self.data_dir / "prepared" if self.store is None else self.results_dir

    @property
    def datasets_dirs(self) -> tuple[Path, ...]:
        """The folders searched for dataset specs, in this order."""
        return (self.data_dir / "datasets", PROJECT / "data" / "datasets")
