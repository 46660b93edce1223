"""Error types whose messages users see: found, expected, where, and what to do next."""


class DigitsError(Exception):
    """A run or a check failed, with a message the user can act on. Exit code 1."""


class UsageError(DigitsError):
    """The command was called incorrectly. Exit code 2."""


class DataError(DigitsError):
    """Source data is missing, does not match its dataset spec, or cannot be obtained."""


class UnreachableError(DataError):
    """No source could provide the data; a later attempt may succeed."""


class DamagedError(DigitsError):
    """Something in the store or the cache is missing, truncated or corrupted."""


class LedgerError(DigitsError):
    """The ledger is corrupted, incomplete or unreadable."""


class LostRaceError(DigitsError):
    """Another machine was first to add the next line; read it and decide again."""


class StoreError(DigitsError):
    """The store did not do what was asked: it is away, full, or refuses the credentials."""


class NoOnnxFormError(DigitsError):
    """A model version has no ONNX form: an earlier release of digits promoted it."""
