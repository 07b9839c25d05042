"""The errors of the ledger."""


class LedgerError(Exception):
    """The ledger's database cannot be opened or read; the message names it, and says why."""


class ConflictError(Exception):
    """The bank's transaction is in the ledger with another content; the message says which."""
