"""Promises of mqkit, broken one at a time: small patches, and the rows that must see each.

A patch is text that is there exactly once, so that one which no longer fits the code is an error,
and not a mutation that changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in a module of the package."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """A broken promise."""

    name: str
    rows: tuple[int, ...]
    """Those that should turn red; one of them must."""
    edits: tuple[Edit, ...]
    commits: str = "groups"
    """How the ledger's messages are committed in those rows."""

    def apply(self, package: Path) -> None:
        """Break it in a copy of the package.

        :raises ValueError: an edit does not fit the code
        """
        for edit in self.edits:
            path = package / edit.path
            text = path.read_text()
            if text.count(edit.old) != 1:
                raise ValueError(
                    f"{self.name}: {edit.path} has {text.count(edit.old)} times, not once:\n"
                    f"{edit.old}"
                )
            path.write_text(text.replace(edit.old, edit.new))


def _one(
    name: str, rows: tuple[int, ...], path: str, old: str, new: str, commits: str = "groups"
) -> Mutation:
    return Mutation(name, rows, (Edit(path, old, new),), commits)


MUTATIONS = (
    # --- the four that the matrix is defined by --------------------------------------------------
    _one(
        "ack before commit",
        (17,),
        "consuming/processor.py",
        """\
            outcome = await self._dispatch(delivery)
""",
        """\
            from mqkit.outcome import Ack
            await self._settler.settle(delivery, Ack(None))
            outcome = await self._dispatch(delivery)
""",
    ),
    _one(
        "publish returns before the confirm",
        (13,),
        "publishing/sender.py",
        "            known = await verdict\n        finally:\n",
        "            known = Acked()\n        finally:\n",
    ),
    _one(
        "ack before a retry's confirm",
        (19,),
        "consuming/republisher.py",
        """\
        message = await self._copy(delivery, outcome)
""",
        """\
        then(delivery, outcome)
        message = await self._copy(delivery, outcome)
""",
    ),
    _one(
        "inbox skipped",
        (18, 13),
        "store/inbox.py",
        "        for inserted in await dialect.insert_inbox(connection, list(left.values())):\n",
        "        await dialect.insert_inbox(connection, list(left.values()))\n"
        "        for inserted in list(left):\n",
    ),
    _one(
        "inbox skipped in threads",
        (30,),
        "store/inbox.py",
        "        for inserted in dialect.sync_insert_inbox(connection, list(left.values())):\n",
        "        dialect.sync_insert_inbox(connection, list(left.values()))\n"
        "        for inserted in list(left):\n",
    ),
    # --- the consumer and the copies -------------------------------------------------------------
    _one(
        "no waiting for the earlier run of the same id",
        (4,),
        "consuming/wiring.py",
        '_message_id = attrgetter("properties.message_id")\n',
        "def _message_id(_: Delivery) -> None: ...\n",
    ),
    _one(
        "copy not awaited",
        (19,),
        "consuming/republisher.py",
        "            await self._send(message)\n        except (Exchange",
        # After the ack is written: what is sent in the same turn of the loop may win.
        "            later = asyncio.get_running_loop().call_later\n"
        "            later(0.1, asyncio.ensure_future, self._send(message))\n"
        "        except (Exchange",
    ),
    _one(
        "retry under a new id",
        (19,),
        "consuming/republisher.py",
        "        if is_without_id(delivery.properties):\n",
        "        if delivery.channel is not None:\n",
    ),
    _one(
        "acked although the database failed",
        (26,),
        "consuming/failures.py",
        "            return RetryAfter(wait, error, elapsed=elapsed, counted=False)\n",
        "            return Ack(None)\n",
    ),
    _one(
        "failures of the database counted",
        (26,),
        "consuming/failures.py",
        "elapsed=elapsed, counted=False)",
        "elapsed=elapsed, counted=True)",
    ),
    # --- the inbox -------------------------------------------------------------------------------
    _one(
        "inbox committed before the handler",
        (17, 19),
        "store/running/once.py",
        """\
                connection, dialect, handler, delivery, now=self._clock(), keep=self._keep
            )
            if handled""",
        """\
                connection, dialect, handler, delivery, now=self._clock(), keep=self._keep
            )
        async with opened.database.transaction() as connection:
            if handled""",
        "alone",
    ),
    _one(
        "inbox forgets without a margin for clocks",
        (28,),
        "store/store.py",
        "CLOCK_MARGIN = 2 * 3600.0\n",
        "CLOCK_MARGIN = 0.0\n",
    ),
    # --- groups and batches ----------------------------------------------------------------------
    _one(
        "a duplicate let through to a group",
        (18,),
        "store/running/once.py",
        "        for each in deliveries if known else ():\n",
        "        for each in ():\n",
    ),
    _one(
        "a duplicate let through to a batch",
        (18,),
        "store/running/once.py",
        "        for each in deliveries if known else ():\n",
        "        for each in ():\n",
        "batches",
    ),
    _one(
        "a group acked before its commit",
        (17,),
        "store/running/once.py",
        "            group.ended.append((member, result))\n",
        "            group.ended.append((member, result))\n            member.end(result)\n",
    ),
    _one(
        "an inbox row kept after a member of a group was rolled back",
        (19,),
        "store/running/once.py",
        "            await inbox.take_out(connection, database.dialect, handler, failed)\n",
        "",
    ),
    _one(
        "an inbox row kept of a batch's message that failed",
        (19,),
        "store/running/once.py",
        "            await inbox.take_out(connection, dialect, handler, failed)\n",
        "",
        "batches",
    ),
    _one(
        "what a member of a group wrote kept after it failed",
        (19,),
        "store/running/once.py",
        "            await opened.database.dialect.roll_back(connection)\n",
        "            pass\n",
    ),
    _one(
        "what a member of a group published kept after it failed",
        (19,),
        "store/running/once.py",
        "            group.failed.append((member, error))\n",
        "            group.failed.append((member, error))\n"
        "            group.transactions.append(transaction)\n",
    ),
    Mutation(
        "a row that a member of a group added kept after it failed",
        (19,),
        (
            Edit("store/running/once.py", "            rows.forget(transaction)\n", ""),
            Edit("store/running/once.py", "            watch_of(connection).rows.undo()\n", ""),
            Edit(
                "store/database/added_rows.py",
                "it began: what was there before was written.\n        self.waiting.clear()\n",
                "it began: what was there before was written.\n",
            ),
        ),
    ),
    # --- the outbox ------------------------------------------------------------------------------
    _one(
        "outbox written after the commit",
        (17,),
        "store/running/once.py",
        """\
            await self.finish(opened, connection, [transaction])
            await inbox.keep_result(connection, dialect, handler, delivery, result)
""",
        """\
            await transaction.flush()
            await inbox.keep_result(connection, dialect, handler, delivery, result)
        async with opened.database.transaction() as connection:
            await outbox.write(
                connection, opened.database.dialect, transaction.messages, self._clock()
            )
""",
        "alone",
    ),
    _one(
        "outbox committed before the handler's work",
        (17,),
        "store/running/once.py",
        """\
            await self.finish(opened, connection, [transaction])
            await inbox.keep_result(connection, dialect, handler, delivery, result)
""",
        """\
            await transaction.flush()
            async with opened.database.transaction() as own:
                await outbox.write(
                    own, opened.database.dialect, transaction.messages, self._clock()
                )
            await inbox.keep_result(connection, dialect, handler, delivery, result)
""",
        "alone",
    ),
    _one(
        "no lock of the keys",
        (27,),
        "store/database/postgresql/dialect.py",
        "    hashes = sorted({key_hash(key) for key in keys})\n",
        "    hashes: list[int] = []\n",
    ),
    Mutation(
        "outbox read from the last number on",
        (27,),
        (
            Edit(
                "store/relay.py",
                "size = max(1, self._outbox.shards // WINDOWS)",
                "size = self._outbox.shards",
            ),
            Edit(
                "store/outbox.py",
                """\
    rows = (await connection.execute(_free(dialect), parameters)).all()
""",
                """\
    rows = (await connection.execute(_free(dialect), parameters)).all()
    rows = [row for row in rows if row.id > max(_SEEN)]
    _SEEN.extend(row.id for row in rows)
""",
            ),
            Edit(
                "store/outbox.py",
                "MAX_ERROR_TEXT = 1_000\n",
                "MAX_ERROR_TEXT = 1_000\n\n_SEEN = [0]\n",
            ),
        ),
    ),
    _one(
        "what was refused waits however long the clock says",
        (28,),
        "store/outbox.py",
        "table.c.retry_at > now, table.c.retry_at <= longest)",
        "table.c.retry_at > now)",
    ),
    # --- the relay -------------------------------------------------------------------------------
    Mutation(
        "marked before the confirm",
        (20,),
        (
            Edit(
                "store/relay.py",
                """\
            published, failed = await self._publish(claim.entries)
            await claim.mark(published)
""",
                """\
            published, failed = list(claim.entries), []
            await claim.mark(published)
""",
            ),
            Edit(
                "store/relay.py",
                "        self.published += len(published)\n",
                "        await self._publish(published)\n"
                "        self.published += len(published)\n",
            ),
        ),
    ),
    _one(
        "relays that do not keep each other out",
        (20,),
        "store/database/postgresql/statements.py",
        "WHERE pg_try_advisory_xact_lock($2, shard)",
        "WHERE pg_try_advisory_xact_lock($2, shard) OR true",
    ),
    _one(
        "published again under a new id",
        (20,),
        "store/relay.py",
        "                    await self._send(message, timeout=PUBLISH_TIMEOUT, declare=declare)\n",
        """\
                    import uuid
                    from dataclasses import replace
                    renamed = replace(message.properties, message_id=str(uuid.uuid4()))
                    again = replace(message, properties=renamed)
                    await self._send(again, timeout=PUBLISH_TIMEOUT, declare=declare)
""",
    ),
)
