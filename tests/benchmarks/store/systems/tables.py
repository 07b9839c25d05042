"""The handlers' own table, for those who write to it by SQLAlchemy."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, MetaData, String, Table, insert

from tests.benchmarks.store.systems.base import TABLE

posting = Table(
    TABLE,
    MetaData(),
    Column("order_id", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("cents", BigInteger, nullable=False),
)
INSERT = insert(posting)
