"""Row 30: workers with `def` handlers that are killed at the worst moments."""

from __future__ import annotations

from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.rows_store import KILLS, SQLITE, WORKERS, kill

POINTS = {
    "handled in a thread, outbox not written": "before:mqkit.store.outbox.sync_write",
    "outbox written, not committed": "before:mqkit.store.inbox.sync_keep_results",
    "committed in a thread": "after:mqkit.store.store.Store.run_once_in_thread",
}

SQLITE_POINT = {
    "committed in a thread (sqlite)": ("after:mqkit.store.store.Store.run_once_in_thread")
}


@row(
    30,
    "worker with `def` handlers killed around its commit",
    short=7,
    long=len(POINTS) * KILLS + KILLS // SQLITE,
)
async def around_commit(bench: Bench) -> None:
    """Before it nothing of the work is there, after it all of it; in either case it is once."""
    on_sqlite = max(bench.faults // (len(POINTS) * SQLITE + 1), 1)
    targets = {"thread_worker_and_relay": WORKERS}
    log = await kill(bench, POINTS, targets, faults=bench.faults - on_sqlite)
    log += await kill(bench, SQLITE_POINT, targets, kind="sqlite", faults=on_sqlite)
    again = log.count("was handled before")
    bench.figures.notes.append(f"{again} messages came again that were committed")
    bench.check(again > 0, "no committed message came again")
