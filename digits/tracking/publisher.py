"""The process that publishes: `python -m digits.tracking.publisher DATASET`.

Prints nothing but what went wrong, on standard output.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from digits.errors import DigitsError
from digits.escaping import one_line, without_password
from digits.registry.ledger import Ledger
from digits.storage.locks import hold
from digits.storage.workspace import current_workspace

MAX_LENGTH = 300


def publish_all(dataset: str) -> None:
    """Bring MLflow to what the workspace holds: unpublished runs, versions, the alias.

    Raises DigitsError if something to publish is missing or corrupted, and MLflow's own errors.
    """
    from digits.tracking.mlflow_runs import Runs
    from digits.tracking.mlflow_versions import Versions
    from digits.tracking.unpublished import Unpublished

    workspace = current_workspace()
    settings = workspace.settings
    with hold(settings.artifacts_dir / "locks" / f"mlflow-{dataset}.lock"):
        entries = Ledger(dataset, settings).entries()
        runs = Runs(dataset, entries, workspace)
        lost = []
        for path, made in Unpublished(dataset, settings).all():
            try:
                runs.log_run(made)
            except DigitsError as error:  # deleted by gc, perhaps: it will not come back
                lost.append(str(error))
            path.unlink()
        Versions(dataset, entries, runs).update()
    if lost:
        raise DigitsError("; ".join(lost))


def problem_of(error: Exception) -> str:
    """Describe an error in one line without passwords."""
    if isinstance(error, DigitsError):
        return one_line(str(error))
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    cause = _cause(error)
    text = without_password(f"{uri}: {type(cause).__name__}: {cause}")
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    text = one_line(" ".join(text.split()))
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}..."


def _cause(error: BaseException) -> BaseException:
    """Return what the network said first, below what three libraries wrapped around it."""
    found, seen = error, error.__context__
    while seen is not None:
        found = seen if isinstance(seen, OSError) else found
        seen = seen.__context__
    return found


def _secrets(uri: str) -> Iterator[str]:
    with contextlib.suppress(ValueError):
        password = urlsplit(uri).password or ""
        yield from filter(None, (password, unquote(password)))
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        if secret := os.environ.get(name):
            yield secret


def main() -> None:
    """Publish; exit with 1 after a problem."""
    # The run ends this process in time, unless it was killed itself.
    signal.setitimer(signal.ITIMER_REAL, current_workspace().settings.mlflow_seconds + 1)
    printed = sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            publish_all(sys.argv[1])
    except Exception as error:  # noqa: BLE001  # whatever it is, the run goes on with a warning
        printed.write(problem_of(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
