"""Keeps what is sent to this machine away from proxies; downloads still use them."""

import functools
import os
from collections.abc import MutableMapping
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def exempt_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine to the hosts that are reached without a proxy, here and in child processes.

    Both spellings are set: libraries disagree on which one counts.
    """
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    exempt = ",".join(dict.fromkeys((*names, *LOOPBACK)))
    environment["no_proxy"] = environment["NO_PROXY"] = exempt


def reach_loopback_directly() -> None:
    """Make this process's Prefect clients ignore proxies if their server is on this machine.

    The list of exempt hosts is not enough: httpx prepares a client for every proxy that the
    environment names, and fails for SOCKS without a further package.
    """
    if not is_loopback(os.environ.get("PREFECT_API_URL", "")):
        return
    from prefect.client import base

    for client in (base.PrefectHttpxAsyncClient, base.PrefectHttpxSyncClient):
        direct = functools.partialmethod(client.__init__, trust_env=False)
        setattr(client, "__init__", direct)  # noqa: B010


def without_proxies() -> dict[str, str]:
    """Return the environment for a program whose only server is the one at PREFECT_API_URL.

    Without the variables that name proxies, if that is this machine: its client would fail, too.
    """
    if not is_loopback(os.environ.get("PREFECT_API_URL", "")):
        return dict(os.environ)
    return {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine."""
    try:
        return urlsplit(url).hostname in LOOPBACK
    except ValueError:
        return False
