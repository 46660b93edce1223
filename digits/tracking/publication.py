"""Publishes to MLflow in a process of its own: a slow or hanging server cannot hold up a run.

What a run made is noted in a file before it is published. The file is deleted when MLflow has all
of it, so the next run or rollback makes up for what was missed.
"""

import importlib.util
import os
import subprocess
import sys

from digits.escaping import without_password
from digits.settings import IS_INSTALLED, Settings
from digits.tracking.unpublished import MadeByRun, Unpublished


def publish(dataset: str, settings: Settings, made: MadeByRun | None = None) -> str | None:
    """Publish what a run made, what earlier ones left, and who the champion is.

    Returns a warning if MLflow lacks any of it, or None. Never raises, and never takes much longer
    than `mlflow_seconds`; does nothing if no server is configured.
    """
    if settings.mlflow_tracking_uri is None:
        return None
    try:
        if made is not None:
            Unpublished(dataset, settings).add(made)
        problem = _publish(dataset, settings.mlflow_tracking_uri.get_secret_value(), settings)
    except OSError as error:
        problem = f"{error.filename or 'its client'}: {error.strerror}"
    if problem is None:
        return None
    return f"MLflow lacks part of {dataset}: {problem}; the next run or rollback publishes the rest"


def _publish(dataset: str, uri: str, settings: Settings) -> str | None:
    if importlib.util.find_spec("mlflow") is None:
        command = "pip install 'digits[mlflow]'" if IS_INSTALLED else "make mlflow"
        return (
            "MLFLOW_TRACKING_URI is set, but the extra mlflow is not installed "
            f"(`{command}` installs it)"
        )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "digits.tracking.publisher", dataset],
            cwd=settings.artifacts_dir,  # MLflow's own files, if the address is a local database
            env=_environment(settings, uri),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=settings.mlflow_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{without_password(uri)} took longer than {settings.mlflow_seconds:g} s"
    if done.returncode == 0:
        return None
    return done.stdout.strip() or f"its client ended with exit code {done.returncode}"


def _environment(settings: Settings, uri: str) -> dict[str, str]:
    """The process's environment; only its limits are the user's to change."""
    limits = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    return {
        **limits,
        **os.environ,
        "DIGITS_DATA_DIR": str(settings.data_dir),
        "DIGITS_ARTIFACTS_DIR": str(settings.artifacts_dir),
        "DIGITS_MLFLOW_SECONDS": str(settings.mlflow_seconds),
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "DO_NOT_TRACK": "1",
    }
