"""A thread of the blocking publisher: it holds a connection and writes what is queued."""

from __future__ import annotations

import logging
import random
import threading
import time

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.nap import sleep_using_event

from mqkit.blocking.connection import BlockingConnection
from mqkit.blocking.pending import PendingPublish
from mqkit.blocking.queue import PublishQueue
from mqkit.broker.connection import RECOVERY_WAIT_MAX, RECOVERY_WAIT_UNIT, worth_trying_again
from mqkit.drivers.base import Closed, Gone
from mqkit.errors import ChannelClosedError, ConnectError, HeadersTooLargeError, MqkitError
from mqkit.publishing.probe import PROBE_AFTER, log_refused_probe
from mqkit.publishing.verdicts import Doubt, Stage, judge
from mqkit.settings import Host

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
        """Start it.

        :raises RuntimeError: as `start_thread`
        """
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until it has ended, for at most so many seconds."""
        self._thread.join(seconds)

    @property
    def blocked(self) -> str | None:
        """Why the broker blocks publishers on this thread's connection, as far as it was told."""
        connection = self._connection
        return connection.blocked if connection is not None else None

    @property
    def is_stuck(self) -> bool:
        """True if it has waited for one confirm longer than a broker without an alarm takes."""
        since = self._writing_since
        return since is not None and time.monotonic() - since > PROBE_AFTER

    def wake(self) -> None:
        """Make it look for work; from any thread."""
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
        except Exception:
            logger.exception("%s: a publisher's thread failed", self.name)
            self._queue.crash(self)

    def _serve(self, connection: BlockingConnection) -> None:
        self._connection = connection
        try:
            while not self._queue.stopping and not self._is_surplus(connection):
                self._step(connection)
        except ChannelClosedError as why:
            logger.warning("%s: connection lost: %s", self.name, why.text)
        finally:
            self._connection = None
            connection.close()

    def _step(self, connection: BlockingConnection) -> None:
        """Do one thing: hear the broker, probe, or publish.

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
        # One that is blocked stays: it could not say goodbye, and it knows of the alarm.
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
        if self._losses > 1:
            # A broker that drops whoever publishes must not be run at in a tight loop.
            longest = min(RECOVERY_WAIT_UNIT * 2.0**self._losses, RECOVERY_WAIT_MAX)
            self._queue.closing.wait(random.uniform(0, longest))
        if not connection.is_open:
            raise ChannelClosedError(why.code, why.text)

    def _connect(self) -> BlockingConnection | None:
        """A connection, as soon as there is one; None where nobody waits for it any more.

        :raises AuthenticationError: the very first one's credentials were refused
        :raises VirtualHostError: the very first one's virtual host was refused
        """
        queue = self._queue

        def log_wait(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            name, wait = self.name, state.upcoming_sleep
            logger.warning("%s: %s; trying again in %.1f s", name, error, wait)

        def again(error: BaseException) -> bool:
            return worth_trying_again(error, first=not queue.ever_connected)

        attempts = Retrying(
            stop=lambda _: queue.stopping or not queue.has_waiting,
            wait=wait_random_exponential(multiplier=RECOVERY_WAIT_UNIT, max=RECOVERY_WAIT_MAX),
            retry=retry_if_exception(again),
            sleep=sleep_using_event(queue.closing),
            before_sleep=log_wait,
            retry_error_callback=lambda _: None,
        )
        return attempts(self._try_each_host)

    def _try_each_host(self) -> BlockingConnection:
        queue = self._queue
        hosts = queue.url.hosts
        problems: list[str] = []
        for _ in hosts:
            host = hosts[queue.host % len(hosts)]
            try:
                connection = BlockingConnection.open(queue.url, host, queue.name)
            except MqkitError as error:
                if not isinstance(error, ConnectError) or not worth_trying_again(
                    error, first=not queue.ever_connected
                ):
                    queue.problem = str(error)
                    raise
                self._skip(host)
                problems.append(str(error))
            else:
                logger.info("%s: connected to %s", self.name, host)
                queue.ever_connected, queue.problem = True, None
                return connection
        queue.problem = "; ".join(problems)
        raise ConnectError(queue.problem)

    def _skip(self, host: Host) -> None:
        """Go on to the next host, unless another thread did that already."""
        hosts = self._queue.url.hosts
        if hosts[self._queue.host % len(hosts)] == host:
            self._queue.host += 1
