"""What users are told when a store is away, slow, full, or refuses."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from digits.errors import StoreError

logger = logging.getLogger(__name__)

# After so many seconds without an answer, a user wonders what a command is doing.
LONG = 10
STATUS = re.compile(r"status code: (\d{3})([ \w]*)")
CODE = re.compile(r"<Code>(\w+)</Code>")
FULL = re.compile(r"Storage|Quota|Full")
SERVER_ERROR = 500


@contextlib.contextmanager
def told_if_long(address: str, what: str) -> Iterator[None]:
    """Log once if a block takes long, since it is tried again without a word."""
    message = "%s: does not answer; still trying to %s"
    timer = threading.Timer(LONG, logger.warning, (message, address, what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def explained(address: str, what: str, error: Exception) -> StoreError:
    """Return the error to raise for one of object_store's, without addresses that it asked.

    They can contain credentials, such as Azure's shared access signatures.
    """
    text = str(error)
    status, code = STATUS.search(text), CODE.search(text)
    if status is None:
        # The lines after the first contain Rust's own description of the same error.
        reason = text.partition("\n")[0].rpartition(" - ")[2]
    else:
        reason = f"it answered {status[1]}{status[2]}" + (f", {code[1]}" if code else "")
    return StoreError(f"{address}: cannot {what}: {reason}; {_advice(error, status, code)}")


def _advice(error: Exception, status: "re.Match[str] | None", code: "re.Match[str] | None") -> str:
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "check the credentials and their permissions (docs/scale.md)"
    kept = "nothing is lost: then run again, and finished steps are kept"
    if code is not None and FULL.search(code[1]):
        return f"make room in the store; {kept}"
    if status is not None and int(status[1]) >= SERVER_ERROR:
        return f"wait until the store is well, or see whether it is full; {kept}"
    return f"wait until the store answers; {kept}"
