"""The reconnect policy: after which errors, after what wait and to which host to connect again.

Whoever connects goes over the URL's hosts, waits, and goes over them again. The waits grow and are
jittered, so that all the clients of a broker that restarts do not come back at once.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

from tenacity import RetryCallState, wait_random_exponential

from mqkit.errors import (
    AuthenticationError,
    BorrowedConnectionError,
    BrokerError,
    ConnectError,
    VirtualHostError,
)
from mqkit.logging.outages import OutageLog
from mqkit.settings import Host

RECOVERY_WAIT_UNIT = 0.2
"""Seconds; the n-th wait is drawn between 0 and 2^n of these, so that clients spread out."""

RECOVERY_WAIT_MAX = 4.0
"""Seconds; no wait between two rounds over the hosts is longer."""


def worth_trying_again(error: BaseException, *, first: bool) -> bool:
    """Decide whether an attempt to connect that failed is followed by another one.

    At the start a wrong password is somebody's mistake. Later it is a broker that is starting and
    does not know its users yet, or a certificate that is being replaced: anything may become right.

    :param first: there was no connection before
    """
    if first:
        refused = isinstance(error, AuthenticationError | VirtualHostError)
        return isinstance(error, BrokerError) and not refused
    return isinstance(error, Exception) and not isinstance(error, BorrowedConnectionError)


def wait_between_rounds() -> Callable[[RetryCallState], float]:
    """Make the tenacity strategy that draws the wait after each round over the hosts."""
    return wait_random_exponential(multiplier=RECOVERY_WAIT_UNIT, max=RECOVERY_WAIT_MAX)


def wait_after_losses(losses: int) -> float:
    """Draw the seconds to wait before connecting, after `losses` losses in quick succession.

    A broker that drops whoever connects, or publishes, must not be run at in a tight loop.
    """
    if losses <= 1:
        return 0.0
    return random.uniform(0, min(RECOVERY_WAIT_UNIT * 2 ** min(losses, 8), RECOVERY_WAIT_MAX))


def tell_failed_round(outages: OutageLog, name: str) -> Callable[[RetryCallState], None]:
    """Make the callback that tenacity calls before a wait: it tells why connecting failed."""

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        # A wrong password, a certificate, a defect: no broker that is merely away.
        cause = error.__cause__ if type(error) is ConnectError else error
        news = None if cause is None else type(cause)
        outages.down(name, "no connection", error or "unknown", news=news)

    return tell


class Hosts:
    """The hosts of a broker's URL: the one that was connected to last, then those after it.

    Threads may share it: a host that fails for several of them at once is skipped once.
    """

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._skipped = 0
        self._refusal: ConnectError | None = None

    def attempts(
        self, problems: list[str], *, first: bool
    ) -> Iterator[contextlib.AbstractContextManager[Host]]:
        """Give each host once, for an attempt to connect to it.

        Each is a context manager that gives the host. It adds the error of one that cannot be
        connected to to `problems`, and lets through what is not worth trying the next host for.

        :param first: as in `worth_trying_again`
        """
        return (self._attempt(problems, first=first) for _ in self._hosts)

    def failure(self, problems: list[str]) -> ConnectError:
        """Make the error of a round in which each host failed; what refused it is the cause."""
        error = ConnectError("; ".join(problems))
        error.__cause__, self._refusal = self._refusal, None
        return error

    @contextlib.contextmanager
    def _attempt(self, problems: list[str], *, first: bool) -> Iterator[Host]:
        at = self._skipped
        host = self._hosts[at % len(self._hosts)]
        try:
            yield host
        except ConnectError as error:
            if not worth_trying_again(error, first=first):
                raise
            problems.append(str(error))
            if isinstance(error, AuthenticationError | VirtualHostError):
                self._refusal = error.with_traceback(None)
            if self._skipped == at:
                self._skipped += 1
