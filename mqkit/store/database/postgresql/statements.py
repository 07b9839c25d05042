"""The statements of PostgreSQL that each transaction, or each round of a relay, runs.

Arrays are one parameter, so that a statement is prepared once for however many rows; those of many
rows are texts (`packing`). Their parameters are PostgreSQL's own, which asyncpg takes; `by_name` is
for SQLAlchemy and psycopg.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from sqlalchemy import TextClause, text

from mqkit.store.database.postgresql.packing import unpacked

_MINE = """
hashtextextended(message_id, 0) = ANY (
    ARRAY(SELECT hashtextextended(each, 0) FROM unnest(CAST($1 AS text[])) AS each)
)
AND hashtextextended(handler || ' ' || queue, 0) = hashtextextended($2 || ' ' || $3, 0)
AND handler = $2 AND queue = $3
"""
"""The rows of messages ($1), handler ($2) and queue ($3); of other ids of the same hash, too.

The hashes are what is indexed (`mqkit.store.schema`). They stand in an array, which the index is
looked into for, and in no join: the planner takes the rows for few, and would compare each with all
ids."""

INSERT_INBOX = f"""
INSERT INTO mqkit_inbox (
    handled_at, keep_until, body_hash, attempt, message_id, handler, queue
)
SELECT now(), date_trunc('minute', now() + CAST($6 AS interval) + interval '1 minute'), body_hash,
    attempt, message_id, CAST($4 AS text), CAST($5 AS text)
FROM unnest(
    {unpacked(1, 7)}, CAST(CAST($2 AS text) AS bigint[]), CAST(CAST($3 AS text) AS integer[])
) AS each (message_id, body_hash, attempt)
ON CONFLICT DO NOTHING
RETURNING message_id
"""  # noqa: S608
"""Waits where another transaction has inserted a row and is not committed."""

FIND_INBOX = f"SELECT message_id, result, body_hash FROM mqkit_inbox WHERE {_MINE}"  # noqa: S608

DELETE_INBOX = f"DELETE FROM mqkit_inbox WHERE {_MINE}"  # noqa: S608

SET_RESULTS = f"""
UPDATE mqkit_inbox SET result = (SELECT CAST(CAST($4 AS text) AS jsonb)) ->> message_id
WHERE {_MINE}
"""  # noqa: S608
"""The results are one object, by the messages' ids; read once, as it stands in a query of its own.
"""

OUTBOX_TEXTS = ("order_key", "message_id", "exchange", "routing_key", "properties")
"""Columns of text that differ between the rows of one transaction."""

INSERT_OUTBOX = f"""
INSERT INTO mqkit_outbox (
    shard, order_key, message_id, exchange, routing_key, mandatory, properties, body, written_at,
    attempts
)
SELECT shard, order_key, message_id, exchange, routing_key, mandatory = 1, properties, body,
    CAST($9 AS timestamptz), 0
FROM unnest(
    CAST(CAST($1 AS text) AS smallint[]), {unpacked(2, 12)}, {unpacked(3, 12)}, {unpacked(4, 12)},
    {unpacked(5, 12)}, {unpacked(6, 12)}, CAST(CAST($7 AS text) AS smallint[]), CAST($8 AS bytea[])
) WITH ORDINALITY AS each (
    shard, order_key, message_id, exchange, routing_key, properties, mandatory, body, place
)
WHERE (
    SELECT count(pg_advisory_xact_lock($10, hash))
    FROM unnest(CAST(CAST($11 AS text) AS integer[])) AS hash
) >= 0
ORDER BY place
"""  # noqa: S608
"""Takes the locks of the keys ($11) in their order, and then numbers the rows in theirs.

The condition has nothing of a row in it: it is found out once, before the first row is read, and a
row gets its number (the default of its id) after that."""

LOCK_SHARDS = """
SELECT shard FROM unnest(CAST($1 AS integer[])) AS shard WHERE pg_try_advisory_xact_lock($2, shard)
"""

DELETE_OUTBOX = "DELETE FROM mqkit_outbox WHERE id = ANY (CAST($1 AS bigint[]))"


@functools.cache
def by_name(statement: str) -> TextClause:
    """Return a statement whose parameters have names, `$1` that of `p1`."""
    return text(re.sub(r"\$(\d+)", r":p\1", statement))


def named(*args: Any) -> dict[str, Any]:
    """Return the parameters of such a statement by their names."""
    return {f"p{number}": value for number, value in enumerate(args, 1)}
