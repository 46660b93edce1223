"""What a user is told when something is wrong: found, expected, where, and what to do next."""


class DigitsError(Exception):
    """A run or a check failed; its message is one that a user can act on. Exit code 1."""


class UsageError(DigitsError):
    """The call itself was wrong. Exit code 2."""


class DataError(DigitsError):
    """Source data is missing, is not what its spec says, or cannot be obtained."""


class UnreachableError(DataError):
    """No source gave the data; another time one may."""


class DamagedError(DigitsError):
    """Something in the store or the cache is gone, cut short or altered."""


class LedgerError(DigitsError):
    """The ledger is not as it was written."""
