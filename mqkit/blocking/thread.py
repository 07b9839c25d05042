"""A thread of the blocking publisher: it connects, and writes what is queued."""

from __future__ import annotations

import logging
import threading
import time

from tenacity import Retrying, retry_if_exception
from tenacity.nap import sleep_using_event

from mqkit.blocking.connection import BlockingConnection
from mqkit.blocking.pending import PendingPublish
from mqkit.blocking.queue import PublishQueue
from mqkit.broker.reconnect import (
    tell_failed_round,
    wait_after_losses,
    wait_between_rounds,
    worth_trying_again,
)
from mqkit.drivers.base import Closed, Gone
from mqkit.errors import ChannelClosedError, HeadersTooLargeError, MqkitError
from mqkit.logging.error_reports import log_error
from mqkit.logging.shown import shown
from mqkit.publishing.probe import PROBE_AFTER, log_refused_probe
from mqkit.publishing.verdicts import Doubt, Stage, judge

logger = logging.getLogger(__name__)

IDLE_SLICE = 5.0
"""Seconds after which an idle thread looks whether its publisher still exists."""


def start_thread(queue: PublishQueue, number: int) -> PublishThread:
    """Start a thread that takes from a queue.

    :raises RuntimeError: there are no more threads to be had, or the interpreter is at its end
    """
    thread = PublishThread(queue, number)
    thread.start()
    return thread


class PublishThread:
    """A daemon thread that takes publishes while it has a connection, and ends without work."""

    def __init__(self, queue: PublishQueue, number: int) -> None:
        self.pending: PendingPublish | None = None
        """What it took and has no result for yet."""
        self.stage = Stage.CONNECTION
        self.name = f"{queue.name}-{number}"
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._queue = queue
        self._connection: BlockingConnection | None = None
        self._writing_since: float | None = None
        self._losses = 0
        """Connections lost with a publish in hand since the broker last judged one."""

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: as `start_thread`
        """
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, for `seconds` at most."""
        self._thread.join(seconds)

    @property
    def blocked(self) -> str | None:
        """The broker's reason for blocking publishers on this connection; None if it does not."""
        connection = self._connection
        return connection.blocked if connection is not None else None

    @property
    def is_stuck(self) -> bool:
        """True if it has waited for one confirm longer than a broker without an alarm takes."""
        since = self._writing_since
        return since is not None and time.monotonic() - since > PROBE_AFTER

    def wake(self) -> None:
        """Make it look for a publish; from any thread."""
        connection = self._connection
        if connection is not None:
            connection.wake()

    def _run(self) -> None:
        try:
            while not self._queue.retire(self):
                self.stage = Stage.CONNECTION
                connection = self._connect()
                if connection is not None:
                    self._serve(connection)
        except MqkitError as error:
            self._queue.fail(self, error)
        except Exception as error:  # noqa: BLE001 - it is logged, and told who waits
            text = "%s: the thread failed, and what waited for it fails"
            log_error(logger, logging.ERROR, text, self.name, error=error)
            self._queue.crash(self)

    def _serve(self, connection: BlockingConnection) -> None:
        self._connection = connection
        try:
            while not self._queue.stopping and not self._is_surplus(connection):
                self._step(connection)
        except ChannelClosedError as why:
            lost, then = "connection lost", "connecting again when a message waits"
            self._queue.outages.down(self._queue.name, lost, shown(why.text), then=then)
        finally:
            self._connection = None
            connection.close()

    def _step(self, connection: BlockingConnection) -> None:
        """Do one thing: read from the broker, probe, or publish.

        :raises ChannelClosedError: the connection was lost
        """
        queue = self._queue
        connection.prepare()
        self.stage = Stage.TURN
        if connection.blocked is not None:
            connection.pump(IDLE_SLICE)
        elif queue.has_waiting and connection.may_probe and connection.silence > PROBE_AFTER:
            self._probe(connection)
        elif (pending := queue.take(self)) is None:
            connection.pump(IDLE_SLICE)
        else:
            self._publish(connection, pending)

    def _is_surplus(self, connection: BlockingConnection) -> bool:
        # One that is blocked stays: it could not close in order, and it knows of the alarm.
        queue = self._queue
        return queue.has_surplus and not queue.has_waiting and connection.blocked is None

    def _probe(self, connection: BlockingConnection) -> None:
        self.stage = Stage.PROBE
        connection.probe(lambda: self._queue.stopping)
        if not connection.may_probe:
            log_refused_probe(logger, self.name)

    def _publish(self, connection: BlockingConnection, pending: PendingPublish) -> None:
        if not pending.claim():
            self.pending = None
            return
        self._writing_since = time.monotonic()
        try:
            verdict = connection.publish(pending.message)
        except HeadersTooLargeError as error:
            self.pending = None
            pending.finish(error)
            return
        finally:
            self._writing_since = None
        # One is in flight at a time: what the broker closed the channel over is this one.
        judgement = judge(pending.message, verdict, alone=True)
        if isinstance(judgement, Doubt):
            assert isinstance(verdict, Gone), "no other verdict leaves a doubt"
            self._after_loss(connection, pending, verdict.why)
            return
        self._losses = 0
        # Free first: a caller that publishes again at once must find this thread, not start one.
        self.pending = None
        pending.finish(judgement)

    def _after_loss(
        self, connection: BlockingConnection, pending: PendingPublish, why: Closed
    ) -> None:
        self._queue.give_back(self, pending)
        self._losses += 1
        self._queue.closing.wait(wait_after_losses(self._losses))
        if not connection.is_open:
            raise ChannelClosedError(why.code, why.text)

    def _connect(self) -> BlockingConnection | None:
        """Connect, trying again until it succeeds; None where no publish waits any more.

        :raises AuthenticationError: the very first one's credentials were refused
        :raises VirtualHostError: the very first one's virtual host was refused
        """
        queue = self._queue

        def again(error: BaseException) -> bool:
            return worth_trying_again(error, first=not queue.ever_connected)

        attempts = Retrying(
            stop=lambda _: queue.stopping or not queue.has_waiting,
            wait=wait_between_rounds(),
            retry=retry_if_exception(again),
            sleep=sleep_using_event(queue.closing),
            before_sleep=tell_failed_round(queue.outages, queue.name),
            retry_error_callback=lambda _: None,
        )
        return attempts(self._try_each_host)

    def _try_each_host(self) -> BlockingConnection:
        queue = self._queue
        problems: list[str] = []
        try:
            for attempt in queue.hosts.attempts(problems, first=not queue.ever_connected):
                with attempt as host:
                    connection = BlockingConnection.open(queue.url, host, queue.name)
                    if not queue.outages.up(queue.name, f"connected to {host}"):
                        logger.info("%s: connected to %s", self.name, host)
                    queue.ever_connected, queue.problem = True, None
                    return connection
            raise queue.hosts.failure(problems)
        except MqkitError as error:
            queue.problem = str(error)
            raise
