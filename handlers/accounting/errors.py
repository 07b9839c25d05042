"""The errors of the ledger: what may pass, and what will not."""


class LedgerError(Exception):
    """The ledger's database cannot be opened or used; the message names it."""


class LedgerUnavailableError(LedgerError):
    """The database cannot be used at the moment: locked, or its disk full or failing."""


class ConflictError(Exception):
    """The bank's transaction is in the ledger with another content; the message says which."""
