"""Opens the store that DIGITS_STORE names, with the credentials that its provider's tools use."""

import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from digits.errors import UsageError
from digits.settings import Settings
from digits.storage.remote.mirror import Mirror
from digits.storage.remote.objects import Objects

SCHEMES = ("s3", "gs", "az", "file", "memory")
# The longest that a request may take.
REQUEST_SECONDS = 120


def objects_of(settings: Settings) -> Objects | None:
    """Return the store that DIGITS_STORE names, or None for the local folders.

    Raises UsageError for an address that cannot be one.
    """
    if settings.store is None:
        return None
    return _opened(settings.store, settings.results_dir, settings.store_seconds)


@cache
def _opened(address: str, folder: Path, seconds: float) -> Objects:
    from digits.storage.remote.probe import probe_once

    connect = partial(connected, address, folder, seconds)
    if address.startswith("memory:"):
        return connect()
    objects: Objects = connect(lambda: probe_once(objects, connect, folder))
    return objects


def connected(
    address: str, folder: Path, seconds: float, check: Callable[[], object] | None = None
) -> Objects:
    """Return a store with a connection of its own; `folder` is for its objects' local copies.

    Raises UsageError for an address that cannot be one.
    """
    parts = urlsplit(address)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES[:-1])
        raise UsageError(f"DIGITS_STORE={_shown(address)}: unknown address (expected {known})")
    if parts.username or parts.password:
        raise UsageError(
            f"DIGITS_STORE={_shown(address)}: contains credentials; give them as your provider's "
            "tools take them, such as AWS_ACCESS_KEY_ID (docs/scale.md)"
        )
    try:
        store = _open(address, parts.path, seconds)
    except (BaseError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"DIGITS_STORE={_shown(address)}: {reason}") from error
    return Objects(store, _shown(address), Mirror(folder / "mirror"), check)


def _open(address: str, path: str, seconds: float) -> ObjectStore:
    if address.startswith("file:"):
        return LocalStore(path, mkdir=True)
    if address.startswith("memory:"):
        return from_url("memory:///")
    options: dict[str, Any] = {"client_options": {"timeout": f"{REQUEST_SECONDS}s"}}
    if address.startswith("s3:"):
        options = _of_s3(options)
    return from_url(
        address,
        retry_config={"max_retries": 1000, "retry_timeout": timedelta(seconds=seconds)},
        **options,
    )


def _of_s3(options: dict[str, Any]) -> dict[str, Any]:
    """Add what object_store does not find by itself: profiles, and a server without TLS."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    if os.environ.get("AWS_PROFILE") and not os.environ.get("AWS_ACCESS_KEY_ID"):
        try:
            from obstore.auth.boto3 import Boto3CredentialProvider
        except ImportError as error:
            raise UsageError("AWS_PROFILE needs boto3: `pip install boto3`") from error
        options["credential_provider"] = Boto3CredentialProvider()
    return options


def _shown(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
