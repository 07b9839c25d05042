"""Makes of what a transaction raised the error that the store raises, without what is secret."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from mqkit.errors import StatementError, StoreError, StoreUnavailableError
from mqkit.store.database.engine import STATEMENT_TIMEOUT
from mqkit.store.database.failures import Fault, is_lasting, is_lost, is_of_driver
from mqkit.store.database.url import redacted, shown
from mqkit.store.database.watch import Watch, is_aborted

_Kind = TypeVar("_Kind", bound=StoreError)


class ErrorTeller:
    """Decides whether an error in a transaction is the database's fault or the caller's."""

    def __init__(self, url: URL, *, statement_timeout: float | None, savepoint: str) -> None:
        """Tell nothing yet.

        :param statement_timeout: seconds; None is the default
        :param savepoint: how a handler begins a savepoint, to say so
        """
        self._url = url
        self._longest = STATEMENT_TIMEOUT if statement_timeout is None else statement_timeout
        self._savepoint = savepoint

    def judged(self, watch: Watch, raised: Exception, lasted: float) -> Exception:
        """Return what an error in a transaction is: the store's, or as it is the caller's own.

        :param lasted: seconds that the transaction went on for
        """
        culprit = watch.culprit(raised)
        fault = watch.fault_of(culprit)
        error: StoreError
        if fault is Fault.DATABASE:
            error = unavailable = self.unavailable(culprit)
            if watch.lost or is_lost(culprit):
                unavailable.lost_after = lasted
        elif fault is Fault.TIMEOUT:
            error = StatementError(
                f"store {shown(self._url)}: a statement of the transaction took longer than "
                f"{self._longest:g} s; Store(statement_timeout=...) allows for more"
            )
            error.__cause__ = culprit
        elif is_aborted(culprit):
            error = StoreError(
                "a statement of the store's transaction failed and the handler went on: "
                "nothing of it is committed; let the error out, or put the statement into "
                f"`{self._savepoint}`"
            )
            error.__cause__ = watch.error or culprit
        elif watch.is_ours and culprit is watch.error and is_of_driver(culprit):
            # Not from it: in what PostgreSQL says besides there may be a row.
            error = self.told(StoreError, culprit)
            error.__suppress_context__ = True
        else:
            return raised
        return error

    def unavailable(self, error: BaseException) -> StoreUnavailableError:
        """Make the error that says that the database failed, with its cause."""
        unavailable = self.told(StoreUnavailableError, error)
        unavailable.lasting = is_lasting(error)
        unavailable.__cause__ = self.cause(error)
        return unavailable

    def told(self, kind: type[_Kind], error: BaseException) -> _Kind:
        """Make an error of the store's with the first line of a driver's."""
        return kind(f"store {shown(self._url)}: {redacted(first_line(error), self._url)}")

    def cause(self, error: BaseException) -> BaseException | None:
        """Return the error to raise from: not a driver's, which may tell what is secret."""
        chain: BaseException | None = error
        text = ""
        seen: set[int] = set()
        while chain is not None and id(chain) not in seen:
            seen.add(id(chain))
            text += f"{chain}\n{chain!r}\n"
            chain = chain.__cause__ or chain.__context__
        return error if redacted(text, self._url) == text else None


def first_line(error: BaseException) -> str:
    """Return what went wrong, without the statement and without its parameters."""
    cause: object = (
        error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    )
    lines = str(cause).splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
