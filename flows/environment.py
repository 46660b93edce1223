"""What the libraries must find in the environment before they are imported."""

import os
import tempfile
from pathlib import Path

from digits.errors import DigitsError
from digits.settings import Settings
from flows.service import api_address


def prepare_environment(settings: Settings) -> None:
    """Set what is not set yet: no telemetry, no user's configuration, one place for all files.

    Flows go to the server of `digits up` while it is up; where there is none, and PREFECT_API_URL
    names no other, Prefect starts its own for the length of a run.
    """
    artifacts = settings.artifacts_dir
    defaults = {
        "PREFECT_HOME": str(artifacts / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(artifacts / "cache" / "values"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Prefect's own lines stay in the dashboard; the terminal shows ours.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        # Our lines go to the dashboard too, where they belong to a run.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "digits,tasks,flows",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # Runs leave the dashboard after 90 days; without this its database grows for ever.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        # The first start migrates a new database; on a busy machine that takes its time.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "GX_ANALYTICS_ENABLED": "false",
        # A ~/.keras/keras.json could change the arithmetic; ours is the only configuration.
        "KERAS_HOME": str(artifacts / "keras"),
        "KERAS_BACKEND": "tensorflow",
        # What is an error to a run, TensorFlow raises in Python as well; the rest says nothing to
        # a user. 0 shows all of it.
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    api = api_address(settings)
    if api is not None:
        defaults["PREFECT_API_URL"] = api
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def prepare_folders(settings: Settings) -> None:
    """Make the folders that a run writes to. Raises DigitsError when one cannot be written."""
    for folder in (
        Path(os.environ["PREFECT_HOME"]),
        Path(os.environ["PREFECT_LOCAL_STORAGE_PATH"]),
        settings.artifacts_dir / "locks",
        settings.prepared_dir,
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise DigitsError(
                f"{folder} cannot be written ({error.strerror}): a run keeps its results there; "
                "make room or give write permission, or name another folder with "
                "DIGITS_ARTIFACTS_DIR and DIGITS_DATA_DIR"
            ) from error
