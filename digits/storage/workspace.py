"""The store and the cache records that belong to the current settings."""

from functools import cache

from digits.settings import Settings
from digits.storage.records import Records
from digits.storage.remote.addresses import objects_of
from digits.storage.store import Store


class Workspace:
    """Access to the two run-time folders, `data` and `artifacts`, and to DIGITS_STORE, if set."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.objects = objects_of(settings)
        self.store = Store(settings)
        self.records = Records(settings, self.store)


def current_workspace() -> Workspace:
    """Return the workspace of the current settings, one per process so that checks are shared."""
    return _workspace(Settings())


@cache
def _workspace(settings: Settings) -> Workspace:
    return Workspace(settings)
