"""What the HTTP door keeps: the orders that it has taken, each under its id for ever."""

from __future__ import annotations

from sqlalchemy import Column, MetaData, String, Table, Text, select
from sqlalchemy.ext.asyncio import AsyncConnection

from handlers.messages import SHORT, PlaceOrder
from handlers.records.inserting import insert_into

metadata = MetaData()

orders = Table(
    "web_order",
    metadata,
    Column("order_id", String(SHORT), primary_key=True),
    Column("content", Text, nullable=False),
)


async def take(connection: AsyncConnection, order: PlaceOrder) -> PlaceOrder | None:
    """Keep an order; return the one that was taken under its id before, or None."""
    row = {"order_id": order.order_id, "content": order.model_dump_json()}
    insert = insert_into(connection, orders).on_conflict_do_nothing()
    if (await connection.execute(insert, row)).rowcount:
        return None
    return await find(connection, order.order_id)


async def find(connection: AsyncConnection, order_id: str) -> PlaceOrder | None:
    """Return the order that was taken under an id."""
    query = select(orders.c.content).where(orders.c.order_id == order_id)
    content = (await connection.execute(query)).scalar_one_or_none()
    return None if content is None else PlaceOrder.model_validate_json(content)
