"""Celery."""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, signals
from celery.worker import state

from tests.benchmarks.side_by_side.systems.base import (
    PREFETCH,
    Job,
    Meter,
    Order,
    System,
    ready,
    run_blocking,
)
from tests.benchmarks.side_by_side.systems.pacing import blocking

THREADS = 8
SETTINGS = (
    f"confirm_publish (a publish waits for its confirm), {THREADS} publishing threads, mandatory; "
    "task_acks_late, task_ignore_result, pool solo (faster here than threads), "
    f"worker_prefetch_multiplier={PREFETCH}; without events, gossip, mingle, remote control and "
    "rate limits, log level WARNING."
)


def app_of(job: Job) -> Celery:
    app = Celery("benchmark", broker=job.url)
    app.conf.update(
        task_default_queue=job.queue,
        task_default_queue_type="quorum",
        task_default_exchange_type="topic",
        broker_transport_options={"confirm_publish": True},
        broker_pool_limit=THREADS,
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=PREFETCH,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )
    return app


def _task(app: Celery, meter: Meter | None) -> Any:
    def handle(order: dict[str, Any]) -> None:
        assert meter is not None
        meter.handled(Order.model_validate(order))

    return app.task(handle, name="handle")


def publish(job: Job) -> None:
    """Send, each confirmed before the next of its thread."""
    app = app_of(job)
    task = _task(app, None)

    def one(order: Order) -> None:
        task.apply_async((order.model_dump(mode="json"),), mandatory=True)

    blocking(job, one, THREADS)
    app.close()


def consume(job: Job, meter: Meter, done: threading.Event) -> None:
    """Run its worker in this process until all are handled."""
    logging.disable(logging.WARNING)
    app = app_of(job)
    _task(app, meter)

    def watch(**_: Any) -> None:
        ready()

    def stop(**_: Any) -> None:
        if done.is_set():
            state.should_stop = True

    signals.worker_ready.connect(watch, weak=False)
    signals.task_postrun.connect(stop, weak=False)
    worker = app.Worker(
        pool="solo",
        concurrency=1,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()


if __name__ == "__main__":
    run_blocking(System(SETTINGS, ("celery", "kombu", "amqp"), publish, consume))
