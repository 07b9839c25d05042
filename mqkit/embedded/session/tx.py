"""What the `tx.*` methods do: begin, commit and roll back a channel's transaction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pamqp import commands

from mqkit.embedded.errors import precondition_failed
from mqkit.embedded.session.channel import Channel
from mqkit.embedded.session.transactions import Transaction


def select(channel: Channel, _: commands.Tx.Select) -> None:
    """Do `tx.select`; twice is once."""
    if channel.confirming:
        raise precondition_failed("cannot switch from confirm to tx mode")
    if channel.transaction is None:
        channel.transaction = Transaction(channel.vhost.memory, channel.return_)
    channel.send(commands.Tx.SelectOk())


def commit(channel: Channel, _: commands.Tx.Commit) -> Iterator[None]:
    """Do `tx.commit`: it is answered once all of it is done and durable."""
    yield from _transaction(channel).commit()
    channel.connection.settle()
    channel.send(commands.Tx.CommitOk())


def rollback(channel: Channel, _: commands.Tx.Rollback) -> None:
    """Do `tx.rollback`."""
    _transaction(channel)
    channel.roll_back()
    channel.send(commands.Tx.RollbackOk())


def _transaction(channel: Channel) -> Transaction:
    if channel.transaction is None:
        raise precondition_failed("channel is not transactional")
    return channel.transaction


HANDLERS: dict[type, Any] = {
    commands.Tx.Select: select,
    commands.Tx.Commit: commit,
    commands.Tx.Rollback: rollback,
}
