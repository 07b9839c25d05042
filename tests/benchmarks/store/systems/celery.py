"""Celery with psycopg: the task's INSERT alone. It has no inbox and no outbox."""

from __future__ import annotations

import logging
import threading
from typing import Any

import psycopg
from celery import signals
from celery.worker import state

from tests.benchmarks.side_by_side.systems import celery
from tests.benchmarks.side_by_side.systems.base import PREFETCH, Order, ready
from tests.benchmarks.store.systems.base import Meter, Program, StoreJob, run, values_of

THREADS = 20
INSERT = "INSERT INTO posting (order_id, account, cents) VALUES (%s, %s, %s)"

SETTINGS = (
    f"psycopg, a connection a thread, the INSERT and its commit; pool threads, {THREADS} of them "
    "(faster here than solo, which waits for each commit), task_acks_late, task_ignore_result, "
    f"prefetch {PREFETCH}; without events, gossip, mingle, remote control and rate limits, log "
    "level WARNING. No inbox, no outbox."
)


def consume(job: StoreJob) -> None:
    """Run its worker in this process until all is committed; the ack of each follows."""
    logging.disable(logging.WARNING)
    done = threading.Event()
    meter = Meter(job, done.set)
    app = celery.app_of(job)
    app.conf.update(worker_prefetch_multiplier=PREFETCH // THREADS)
    own = threading.local()
    database = job.database.replace("+asyncpg", "")

    def post(order: dict[str, Any]) -> None:
        meter.began()
        values = values_of(Order.model_validate(order))
        if not hasattr(own, "connection"):
            own.connection = psycopg.connect(database)
        own.connection.execute(INSERT, values)
        own.connection.commit()
        meter.done()

    # The name that its messages ask for.
    app.task(post, name="handle")

    def stop(**_: Any) -> None:
        if done.is_set():
            state.should_stop = True

    def watch(**_: Any) -> None:
        ready()

    signals.worker_ready.connect(watch, weak=False)
    signals.task_postrun.connect(stop, weak=False)
    worker = app.Worker(
        pool="threads",
        concurrency=THREADS,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    meter.tell()


if __name__ == "__main__":
    packages = ("celery", "kombu", "amqp", "psycopg")
    run(Program(lambda _: SETTINGS, packages, celery.publish, consume))
