"""The errors of the ledger; those of a command say what is wrong with it, and change nothing."""


class LedgerError(Exception):
    """The ledger's database cannot be opened or read; the message names it, and says why."""


class ConflictError(Exception):
    """The bank's transaction, or a command's key, is in the ledger with another content."""


class RefusedError(Exception):
    """A command that gets no answer cannot be carried out; the message says why."""


class RacedError(Exception):
    """Another transaction changed the same hold, or took the same key: carry the command out again.

    It is seen on PostgreSQL alone, where two processes do so at the same moment.
    """
