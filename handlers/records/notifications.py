"""What the notifications service keeps: what customers were told, once about each thing."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Connection, MetaData, String, Table, select

from handlers.records.inserting import insert_new

metadata = MetaData()

notifications = Table(
    "notification",
    metadata,
    # For ever: an order ends once, and so does a refund.
    Column("about", String, primary_key=True),
    Column("account_id", BigInteger, nullable=False, index=True),
    Column("text", String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing that a customer is told."""

    about: str
    """`order-7`, `refund-9`: he is told once about each."""
    account_id: int
    text: str


def keep(connection: Connection, notification: Notification) -> Notification:
    """Keep a notification, unless there is one about the same; returns the one that is kept."""
    row = {
        "about": notification.about,
        "account_id": notification.account_id,
        "text": notification.text,
    }
    if connection.execute(insert_new(connection, notifications), row).rowcount:
        return notification
    query = select(notifications).where(notifications.c.about == notification.about)
    kept = connection.execute(query).one()
    return Notification(about=kept.about, account_id=kept.account_id, text=kept.text)
