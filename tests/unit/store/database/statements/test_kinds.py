"""What a statement does besides reading and writing rows is told from its text."""

from __future__ import annotations

import pytest

from mqkit.store.database.statements.kinds import Kind, is_of_rows, kind_of


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "commit;",
        "  End",
        "ABORT",
        "ROLLBACK",
        "rollback work",
        "ROLLBACK AND CHAIN",
        "ROLLBACK PREPARED 'x'",
        "COMMIT PREPARED 'x'",
        "BEGIN IMMEDIATE",
        "START TRANSACTION",
        "PREPARE TRANSACTION 'x'",
        "-- it is done\nCOMMIT",
        "/* it is\n done */ COMMIT",
        "INSERT INTO work VALUES ('a;b'); COMMIT; BEGIN",
        "SELECT $$;$$; rollback",
        "SET TIME ZONE 'UTC'; COMMIT",
    ],
)
def test_a_statement_that_ends_a_transaction_is_known(statement: str) -> None:
    """However it is written, and wherever it stands in a text."""
    assert kind_of(statement) is Kind.ENDS
    assert kind_of(statement + " " * 20_000) is Kind.ENDS


@pytest.mark.parametrize(
    "statement",
    [
        "",
        ";",
        "INSERT INTO work VALUES ($1)",
        "UPDATE work SET id = 'COMMIT; ROLLBACK'",
        'SELECT "commit", "set" FROM work -- ; COMMIT',
        "SELECT CASE WHEN true THEN 1 END",
        "SELECT 'it''s; COMMIT'",
        "SELECT E'it\\'s; COMMIT'",
        "SELECT $body$ ; COMMIT; $body$",
        "SAVEPOINT commit_it",
        "ROLLBACK TO SAVEPOINT a",
        "rollback transaction to a",
        "RELEASE SAVEPOINT a",
        "SET CONSTRAINTS ALL DEFERRED",
        "SELECT pg_advisory_xact_lock(1)",
        "CREATE TABLE temporary_work (id TEXT)",
        "CREATE TRIGGER t AFTER INSERT ON work BEGIN DELETE FROM other; END",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM a; END",
        'PRAGMA main.table_info("work")',
        "DECLARE c CURSOR FOR SELECT 1",
        "SELECT id FROM ends WHERE start > 1 AND prepare = 2",
    ],
)
def test_a_plain_statement_is_taken_for_one(statement: str) -> None:
    """Though a word of it would be another statement's, in quotes, in a comment or as a name."""
    assert kind_of(statement) is Kind.PLAIN


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SET search_path TO tenant", Kind.SESSION),
        ("set session time zone 'UTC'", Kind.SESSION),
        ("RESET ALL", Kind.SESSION),
        ("DISCARD TEMP", Kind.SESSION),
        ("DEALLOCATE ALL", Kind.SESSION),
        ("LISTEN orders", Kind.SESSION),
        ("PREPARE q AS SELECT 1", Kind.SESSION),
        ("SELECT set_config('app.tenant', $1, false)", Kind.SESSION),
        ("SELECT set_config('app.tenant', $1, $2)", Kind.SESSION),
        ("SELECT set_config('a', 'b', true), set_config('c', 'd', false)", Kind.SESSION),
        ("SELECT set_config('a', 'b', true), pg_advisory_lock(1)", Kind.SESSION),
        ("SELECT pg_advisory_lock(1)", Kind.SESSION),
        ("SELECT pg_try_advisory_lock_shared (1, 2)", Kind.SESSION),
        ("CREATE TEMP TABLE t (i int)", Kind.SESSION),
        ("create local temporary view v as select 1", Kind.SESSION),
        ("SELECT * INTO TEMP t FROM work", Kind.SESSION),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Kind.SESSION),
        ("PRAGMA query_only = ON", Kind.SESSION),
        ("ATTACH 'other.sqlite' AS other", Kind.SESSION),
        ("DETACH DATABASE other", Kind.SESSION),
        ("SET LOCAL search_path TO tenant; SET ROLE tenant", Kind.SESSION),
        ("SET LOCAL search_path TO tenant", Kind.LOCAL),
        ("set transaction read only", Kind.LOCAL),
        ("SELECT set_config('app.tenant', $1, true)", Kind.LOCAL),
        ("SET LOCAL app.tenant = 'a'; INSERT INTO work VALUES (1)", Kind.LOCAL),
    ],
)
def test_what_a_statement_leaves_behind_is_known(statement: str, kind: Kind) -> None:
    """With the session, or until the end of its transaction."""
    assert kind_of(statement) is kind


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO work VALUES ($1)", True),
        ("\n  update work SET id = 'x'", True),
        ("DELETE FROM work", True),
        ("WITH old AS (DELETE FROM work RETURNING id) SELECT id FROM old", True),
        ("SELECT 1", True),
        ("SAVEPOINT a", False),
        ("RELEASE SAVEPOINT a", False),
        ("ROLLBACK TO SAVEPOINT a", False),
        ("INSERT INTO work VALUES ('a'); ROLLBACK TO SAVEPOINT a", False),
        ("SELECT set_config('search_path', 'x', false)", False),
        ("SELECT pg_advisory_lock(1)", False),
        ("COPY work FROM STDIN", False),
        ("COMMIT", False),
        ("", False),
        ("INSERT INTO work VALUES ('" + "x" * 20_000 + "')", False),
    ],
)
def test_what_only_reads_and_writes_rows_is_known(statement: str, expected: bool) -> None:
    """Before it nothing is to be done; whatever is not known for sure is looked at as a whole."""
    assert is_of_rows(statement) is expected
