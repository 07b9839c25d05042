"""The threads behind the blocking publisher: who takes which publish, and when one may be written.

Locks: `Lanes._lock` guards the queue and the list of lanes, `Job._lock` one publish. A job's lock
may be taken under the lanes' lock, never the other way round, and neither is held while waiting.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from enum import Enum

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.nap import sleep_using_event

from mqkit.blocking.connection import BlockingLink
from mqkit.blocking.pending import Job, closed_before, judge, lost
from mqkit.broker.connection import RECOVERY_WAIT_MAX, RECOVERY_WAIT_UNIT, worth_trying_again
from mqkit.drivers.base import Closed
from mqkit.errors import (
    BlockedError,
    ChannelClosedError,
    ConnectError,
    HeadersTooLargeError,
    MqkitError,
    PublisherClosedError,
    PublishError,
    PublishTimeoutError,
)
from mqkit.publishing.channel import PROBE_AFTER
from mqkit.publishing.confirms import Gone
from mqkit.publishing.verdicts import HARMLESS_CODES, publish_error
from mqkit.settings import BrokerUrl, Host

logger = logging.getLogger(__name__)

IDLE_SLICE = 5.0
"""Seconds after which an idle lane looks whether its publisher still exists."""


class Lanes:
    """The queue of publishes of one process, and the lanes that take from it."""

    def __init__(self, url: BrokerUrl, name: str, connections: int) -> None:
        self.url = url
        self.name = name
        self.closing = threading.Event()
        self.orphaned = False
        """Set where nobody holds the publisher any more."""
        self.ever_connected = False
        self.host = 0
        """Counts on to the next host whenever one cannot be connected to."""
        self.problem: str | None = None
        """Why the latest connection attempt failed."""
        self._connections = connections
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        self._lanes: list[Lane] = []
        self._idle: list[Lane] = []
        self._started = 0

    @property
    def stopping(self) -> bool:
        """True once lanes should end."""
        return self.orphaned or self.closing.is_set()

    @property
    def has_jobs(self) -> bool:
        """True if a publish waits to be taken."""
        return bool(self._jobs)

    @property
    def has_surplus(self) -> bool:
        """True if there are more lanes than wanted, which were opened beside stuck ones."""
        return len(self._lanes) > self._connections

    # --- the callers' side -------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a publish.

        :raises PublisherClosedError: the publisher was closed
        :raises ConnectionLostError: no thread could be started; nothing was written
        """
        with self._lock:
            if self.closing.is_set():
                raise publish_error(PublisherClosedError, job.message, "the publisher is closed")
            self._jobs.append(job)
            try:
                self._attend()
            except RuntimeError as error:
                # The interpreter is at its end (Python 3.12 and later), or out of threads.
                if not self._lanes:
                    self._jobs.remove(job)
                    problem = f"no thread for its connection: {error}; nothing was written"
                    raise lost(job, problem) from error

    def attend(self) -> None:
        """See to it that what is queued will be taken, where lanes got stuck since."""
        with self._lock, contextlib.suppress(RuntimeError):
            self._attend()

    def forget(self, job: Job) -> None:
        """Take an abandoned publish out of the queue."""
        with self._lock, contextlib.suppress(ValueError):
            self._jobs.remove(job)

    def deadline_passed(self, job: Job, seconds: float) -> PublishError:
        """The error for a publish whose caller waited `seconds` in vain."""
        within = f"within {seconds:g} s"
        with self._lock:
            blocked = next((lane.blocked for lane in self._lanes if lane.blocked), None)
            awaited = self._awaited()
        if job.confirming or (blocked and job.written):
            problem = f"no confirm {within}; it may be stored" + (
                f" (the broker blocks publishers: {blocked})" if blocked else ""
            )
            return publish_error(PublishTimeoutError, job.message, problem)
        if blocked:
            problem = f"the broker blocks publishers ({blocked}) and did not stop {within}"
            return publish_error(BlockedError, job.message, f"{problem}; nothing was written")
        known = "it may be stored" if job.written else "nothing was written"
        return lost(job, f"waited for {awaited}, which did not come {within}; {known}")

    def close(self, seconds: float) -> None:
        """Fail what is not written, and wait for the lanes to end, `seconds` in all."""
        with self._lock:
            self.closing.set()
            jobs, self._jobs = self._jobs, deque()
            lanes = [*self._lanes]
            for lane in lanes:
                lane.wake()
        for job in jobs:
            job.finish(closed_before(job))
        deadline = time.monotonic() + seconds
        for lane in lanes:
            lane.thread.join(max(0.0, deadline - time.monotonic()))

    def _attend(self) -> None:
        free = sum(lane.job is None for lane in self._lanes)
        stuck = sum(lane.is_stuck for lane in self._lanes)
        limit = self._connections + min(stuck, self._connections)
        if len(self._jobs) > free and len(self._lanes) < limit:
            self._started += 1
            lane = Lane(self, self._started)
            lane.thread.start()
            self._lanes.append(lane)
        elif self._jobs and self._idle:
            self._idle.pop().wake()

    def _awaited(self) -> str:
        stages = {lane.stage for lane in self._lanes}
        if Stage.OPEN in stages:
            return "its turn behind other publishes"
        if Stage.PROBE in stages:
            return "the broker's answer to a probe"
        return "a connection to the broker" + (f" ({self.problem})" if self.problem else "")

    # --- the lanes' side ---------------------------------------------------------------------

    def take(self, lane: Lane) -> Job | None:
        """The next publish for a lane; None if there is none, and `lane.wake` follows the next."""
        with self._lock:
            if self._jobs:
                lane.job = self._jobs.popleft()
                return lane.job
            if lane not in self._idle:
                self._idle.append(lane)
            return None

    def give_back(self, lane: Lane, job: Job) -> None:
        """Nobody knows whether it is stored: it goes first again, under the same message id."""
        with self._lock:
            lane.job = None
            if not job.unclaim():
                return
            if not self.closing.is_set():
                self._jobs.appendleft(job)
                if self._idle:
                    self._idle.pop().wake()
                return
        job.finish(closed_before(job))

    def retire(self, lane: Lane) -> bool:
        """Let a lane without a connection end, unless a publish waits."""
        with self._lock:
            if self._jobs and not self.stopping:
                return False
            self._drop(lane)
            return True

    def fail(self, lane: Lane, error: MqkitError) -> None:
        """Let a lane end that cannot connect, and everybody who waits know why."""
        with self._lock:
            self._drop(lane)
            jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            # One instance each: raising in a thread writes to its exception's traceback.
            job.finish(type(error)(*error.args))

    def crash(self, lane: Lane) -> None:
        """Let a lane end whose own code failed; what it had in hand may be stored."""
        with self._lock:
            self._drop(lane)
            jobs, self._jobs = [*self._jobs], deque()
        for job in [lane.job, *jobs] if lane.job else jobs:
            job.finish(lost(job, "the publisher itself failed; its log has the traceback"))

    def _drop(self, lane: Lane) -> None:
        self._lanes.remove(lane)
        if lane in self._idle:
            self._idle.remove(lane)


class Stage(Enum):
    """What a lane is at, so that a passed deadline is explained truly."""

    CONNECT = 1
    PROBE = 2
    OPEN = 3


class Lane:
    """A daemon thread that takes publishes while it has a connection, and ends without work."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self.job: Job | None = None
        """What it took and has no result for yet."""
        self.stage = Stage.CONNECT
        self.thread = threading.Thread(target=self._run, name=f"{lanes.name}-{number}", daemon=True)
        self._lanes = lanes
        self._link: BlockingLink | None = None
        self._writing_since: float | None = None
        self._losses = 0
        """Connections lost with a publish in hand since the broker last judged one."""

    @property
    def blocked(self) -> str | None:
        """Why the broker blocks publishers on this lane's connection, as far as it was told."""
        link = self._link
        return link.blocked if link is not None else None

    @property
    def is_stuck(self) -> bool:
        """True if it has waited for one confirm longer than a broker without an alarm takes."""
        since = self._writing_since
        return since is not None and time.monotonic() - since > PROBE_AFTER

    def wake(self) -> None:
        """Make it look for work; from any thread."""
        link = self._link
        if link is not None:
            link.wake()

    def _run(self) -> None:
        try:
            while not self._lanes.retire(self):
                self.stage = Stage.CONNECT
                link = self._connect()
                if link is not None:
                    self._serve(link)
        except MqkitError as error:
            self._lanes.fail(self, error)
        except Exception:
            logger.exception("%s: a publisher's thread failed", self.thread.name)
            self._lanes.crash(self)

    def _serve(self, link: BlockingLink) -> None:
        self._link = link
        try:
            while not self._lanes.stopping and not self._is_surplus(link):
                self._step(link)
        except ChannelClosedError as why:
            logger.warning("%s: connection lost: %s", self.thread.name, why.text)
        finally:
            self._link = None
            link.close()

    def _step(self, link: BlockingLink) -> None:
        """Do one thing: hear the broker, probe, or publish.

        :raises ChannelClosedError: the connection was lost
        """
        lanes = self._lanes
        link.prepare()
        self.stage = Stage.OPEN
        if link.blocked is not None:
            link.pump(IDLE_SLICE)
        elif lanes.has_jobs and link.may_probe and link.silence > PROBE_AFTER:
            self._probe(link)
        elif (job := lanes.take(self)) is None:
            link.pump(IDLE_SLICE)
        else:
            self._publish(link, job)

    def _is_surplus(self, link: BlockingLink) -> bool:
        # One that is blocked stays: it could not say goodbye, and it knows of the alarm.
        return self._lanes.has_surplus and not self._lanes.has_jobs and link.blocked is None

    def _probe(self, link: BlockingLink) -> None:
        self.stage = Stage.PROBE
        link.probe(lambda: self._lanes.stopping)
        if not link.may_probe:
            logger.warning(
                "%s: the broker does not let this user probe for alarms; during one, the first "
                "publish will be written and its result unknown",
                self.thread.name,
            )

    def _publish(self, link: BlockingLink, job: Job) -> None:
        if not job.claim():
            self.job = None
            return
        self._writing_since = time.monotonic()
        try:
            verdict = link.publish(job.message)
        except HeadersTooLargeError as error:
            self.job = None
            job.finish(error)
            return
        finally:
            self._writing_since = None
        if isinstance(verdict, Gone) and verdict.why.code in HARMLESS_CODES:
            self._after_loss(link, job, verdict.why)
            return
        self._losses = 0
        # Free first: a caller that publishes again at once must find this lane, not start one.
        self.job = None
        job.finish(judge(job.message, verdict))

    def _after_loss(self, link: BlockingLink, job: Job, why: Closed) -> None:
        self._lanes.give_back(self, job)
        self._losses += 1
        if self._losses > 1:
            # A broker that drops whoever publishes must not be run at in a tight loop.
            longest = min(RECOVERY_WAIT_UNIT * 2.0**self._losses, RECOVERY_WAIT_MAX)
            self._lanes.closing.wait(random.uniform(0, longest))
        if not link.is_open:
            raise ChannelClosedError(why.code, why.text)

    def _connect(self) -> BlockingLink | None:
        """A connection, as soon as there is one; None where nobody waits for it any more.

        :raises AuthenticationError: the very first one's credentials were refused
        :raises VirtualHostError: the very first one's virtual host was refused
        """
        lanes = self._lanes

        def log_wait(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            name, wait = self.thread.name, state.upcoming_sleep
            logger.warning("%s: %s; trying again in %.1f s", name, error, wait)

        def again(error: BaseException) -> bool:
            return worth_trying_again(error, first=not lanes.ever_connected)

        attempts = Retrying(
            stop=lambda _: lanes.stopping or not lanes.has_jobs,
            wait=wait_random_exponential(multiplier=RECOVERY_WAIT_UNIT, max=RECOVERY_WAIT_MAX),
            retry=retry_if_exception(again),
            sleep=sleep_using_event(lanes.closing),
            before_sleep=log_wait,
            retry_error_callback=lambda _: None,
        )
        return attempts(self._try_each_host)

    def _try_each_host(self) -> BlockingLink:
        lanes = self._lanes
        hosts = lanes.url.hosts
        problems: list[str] = []
        for _ in hosts:
            host = hosts[lanes.host % len(hosts)]
            try:
                link = BlockingLink.open(lanes.url, host, lanes.name)
            except MqkitError as error:
                if not isinstance(error, ConnectError) or not worth_trying_again(
                    error, first=not lanes.ever_connected
                ):
                    lanes.problem = str(error)
                    raise
                self._skip(host)
                problems.append(str(error))
            else:
                logger.info("%s: connected to %s", self.thread.name, host)
                lanes.ever_connected, lanes.problem = True, None
                return link
        lanes.problem = "; ".join(problems)
        raise ConnectError(lanes.problem)

    def _skip(self, host: Host) -> None:
        """Go on to the next host, unless another lane did that already."""
        hosts = self._lanes.url.hosts
        if hosts[self._lanes.host % len(hosts)] == host:
            self._lanes.host += 1
