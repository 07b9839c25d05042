"""The transaction that a `def` handler is given which asks for one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from mqkit.checks.checked import Seconds
from mqkit.clock import Clock, utc_now
from mqkit.errors import StoreError
from mqkit.limits import DEFAULT_LIMITS, Limits
from mqkit.message import HeaderValue
from mqkit.publishing.outgoing import Outgoing
from mqkit.store.database.added_rows import AddedRows
from mqkit.store.database.watch import Watch, find_watch
from mqkit.store.transaction import Collected, JoinedSession
from mqkit.topology import Exchange


class SyncTransaction(Collected):
    """A database transaction of a `def` handler: `Transaction` without `await`.

    It is committed when the handler returns and rolled back when it raises, with the note that the
    message is handled and what is published through it. It belongs to the handler's thread, in
    which it begins and ends. Nothing may be committed or rolled back by hand.

    A thread cannot be stopped: where the handler's `timeout` passes or its service ends, it goes
    on, its next statement is refused, and all of it is rolled back.
    """

    __mqkit_runtime_provided__ = True
    __mqkit_synchronous__ = True
    __mqkit_transaction__ = True

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        app_id: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        new_id: Callable[[], object] = uuid.uuid4,
        clock: Clock = utc_now,
    ) -> None:
        """Publish nothing yet.

        :param connection: None: `begin` gives it
        """
        super().__init__(app_id, limits, new_id, clock)
        self._connection = connection
        self._session: Session | None = None

    def begin(self, connection: Connection) -> None:
        """Work on this connection from now on."""
        self._connection = connection

    def end(self) -> None:
        """Let nobody use it any more: its handler has returned."""
        super().end()
        self._connection = self._session = None

    @property
    def connection(self) -> Connection:
        """Return SQLAlchemy's connection, for whatever is not here.

        :raises StoreError: the handler does not run
        """
        if self._connection is None:
            raise StoreError(
                "a SyncTransaction is for its handler's thread, while the handler runs; what "
                "service.provide makes may keep it, and must leave the statements to the handler"
            )
        return self._connection

    def _find_added(self) -> AddedRows:
        rows: AddedRows = self._watch().rows
        return rows

    def _watch(self) -> Watch:
        watch = find_watch(self.connection)
        assert watch is not None
        return watch

    @property
    def session(self) -> Session:
        """Return an ORM session in this transaction; what it holds is flushed before the commit."""
        if self._session is None:
            self._session = JoinedSession(
                self.connection,
                check=lambda: self.connection,
                expire_on_commit=False,
                # A commit by hand then ends a savepoint, and never this transaction.
                join_transaction_mode="create_savepoint",
            )
        return self._session

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement: SQLAlchemy's `Connection.execute`.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        return self.connection.execute(statement, parameters)

    def publish(
        self,
        exchange: Exchange | str,
        routing_key: str,
        body: object,
        *,
        key: str | None = None,
        message_id: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        type: str | None = None,  # noqa: A002 - the property's name
        expiration: Seconds | None = None,
        priority: int | None = None,
        persistent: bool = True,
        mandatory: bool | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
    ) -> str:
        """Publish a message if, and only if, this transaction is committed; return its id.

        It is what `Transaction.publish` is, and raises the same errors.

        :raises InvalidMessageError: it cannot be encoded, or is over a limit; the transaction is
            still good
        :raises ConfigurationError: its service says what it publishes to (`publishes`), and this
            exchange is not among it; the transaction is still good
        """
        return self._add(
            key,
            Outgoing(
                exchange=exchange,
                routing_key=routing_key,
                body=body,
                message_id=message_id,
                headers=headers,
                correlation_id=correlation_id,
                reply_to=reply_to,
                type=type,
                expiration=expiration,
                priority=priority,
                persistent=persistent,
                mandatory=mandatory,
                delay=delay,
                at=at,
            ),
        )

    def flush(self) -> None:
        """Send what was added, and what the ORM session holds; done before the commit anyway.

        :raises sqlalchemy.exc.DBAPIError: the database refused it
        """
        if self._session is not None:
            self._session.commit()
            self._session.close()
            self._session = None
        if self._added is not None:
            self._added.write(self.connection, self._watch())
