"""Environment variables that must be set before the libraries are imported."""

import os
import tempfile
from pathlib import Path

from digits.errors import DigitsError
from digits.settings import HOME, Settings
from flows.serving.installed_prefect import in_prefect
from flows.serving.proxies import exempt_loopback
from flows.serving.service import api_address, models_address

BACKEND = "KERAS_BACKEND"


def prepare_environment(settings: Settings) -> None:
    """Set defaults for unset variables: no telemetry, no user configuration, one place for files.

    Keras's own variables are ours, except for the choice of the backend. Prefect's configuration
    comes from these variables alone: its files could name code to execute. It also reads files of
    the current folder, which `digits run` and the service therefore leave.

    While `digits up` is running, flows use its server. Otherwise, unless PREFECT_API_URL names
    another one, each run starts its own.
    """
    artifacts = settings.artifacts_dir
    defaults = {
        # For processes that are started in another folder, such as the worker's.
        "DIGITS_HOME": str(HOME),
        "PREFECT_HOME": str(artifacts / "prefect"),
        "PREFECT_PROFILES_PATH": str(in_prefect("settings", "profiles.toml")),
        "PREFECT_LOCAL_STORAGE_PATH": str(artifacts / "cache" / "values"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # Prefect's log lines stay in the dashboard; the terminal shows ours.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        # Our log lines also go to the dashboard if they belong to a run.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "digits,tasks,flows",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        # Delete runs after 90 days; otherwise the dashboard's database grows forever.
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        # The first start migrates a new database, which is slow on a busy machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "GX_ANALYTICS_ENABLED": "false",
        BACKEND: "tensorflow",
        # TensorFlow raises real errors in Python; its log lines mean nothing to a user (0 shows
        # them all).
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    if "PREFECT_LOGGING_SETTINGS_PATH" not in os.environ:  # the older name of the same setting
        defaults["PREFECT_LOGGING_CONFIG_PATH"] = str(in_prefect("logging", "logging.yml"))
    api = api_address(settings)
    if api is not None:
        defaults["PREFECT_API_URL"] = api
        defaults["DIGITS_SERVE_URL"] = models_address(api)
    # Each can change the training, such as KERAS_MAX_EPOCHS, but is no part of a cache key.
    for name in [name for name in os.environ if name.startswith("KERAS_") and name != BACKEND]:
        del os.environ[name]
    # Not ~/.keras, whose keras.json could change the arithmetic.
    os.environ["KERAS_HOME"] = str(artifacts / "keras")
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    exempt_loopback()


def prepare_folders(settings: Settings) -> None:
    """Create the folders that a run writes to. Raises DigitsError if one is not writable."""
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
                f"{folder} is not writable ({error.strerror}), but a run stores its results there; "
                "free some space, fix the permissions, or choose other folders with "
                "DIGITS_ARTIFACTS_DIR and DIGITS_DATA_DIR"
            ) from error
