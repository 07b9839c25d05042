"""Ends the transaction of a connection that another thread uses.

A request to cancel reaches a server by a connection of its own, and ends what that server process
is at: nothing, where it comes between two statements. So the connection is shut first, for writing:
nothing more can be sent by it then. What was sent before may still lie on the way, and begin after
a cancel. So that is repeated until the server has hung up, which it does once it reads on.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable
from typing import Any

from mqkit.clock import monotonic

TIMEOUT = 2.0
"""Seconds for telling a server to end a statement."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds to wait for the server to hang up before the cancel is sent again; doubled each time."""


def abort(driver: Any) -> None:
    """End the transaction of a connection of psycopg's: it is rolled back, and cannot go on.

    Where a pooler stands between, what begins as this is called may go on until its own end: a
    pooler forgets a client that has hung up, and cancels nothing for it.
    """
    deadline = monotonic() + TIMEOUT
    with contextlib.suppress(Exception):  # a driver's, of an extra that need not be here
        # Before it is shut: its thread may close it at any time from then on.
        cancel = _canceller(driver)
        with _socket_of(driver) as same:
            _cancel_until_hung_up(cancel, same, deadline)


def _cancel_until_hung_up(
    cancel: Callable[[float], None], same: socket.socket, deadline: float
) -> None:
    try:
        with contextlib.suppress(Exception):  # as above; a pooler knows the client only now
            cancel(deadline)
        same.shutdown(socket.SHUT_WR)
        pause = FIRST_PAUSE
        while not _has_hung_up(same, pause) and monotonic() < deadline:
            with contextlib.suppress(Exception):  # no more of them is taken: it is told again
                cancel(deadline)
            pause = min(2 * pause, LONGEST_PAUSE)
    finally:
        # A server that cannot be reached does not hang up; the thread is to know all the same.
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)


def _socket_of(driver: Any) -> socket.socket:
    # Its kind matters to nobody who only shuts it down.
    return socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM)


def _has_hung_up(same: socket.socket, seconds: float) -> bool:
    """Wait so long for the other end to close; whatever it sent before is for others to read."""
    poll = select.poll()
    poll.register(same, 0)
    return bool(poll.poll(seconds * 1000))


def _canceller(driver: Any) -> Callable[[float], None]:
    """Return what asks the server to cancel, until a time on the monotonic clock."""
    from psycopg import capabilities  # noqa: PLC0415 - an extra, which is here if a driver is

    if not capabilities.has_cancel_safe():  # of a libpq before 17, without a deadline
        request = driver.pgconn.get_cancel()
        return lambda _: request.cancel()
    request = driver.pgconn.cancel_conn()
    return lambda deadline: _send(request, deadline)


def _send(request: Any, deadline: float) -> None:
    """Send a request to cancel, and wait until it was read.

    :raises TimeoutError: it was not until then
    """
    from psycopg.pq import PollingStatus  # noqa: PLC0415 - as above

    request.reset()
    request.start()
    while (status := request.poll()) != PollingStatus.OK:
        if status == PollingStatus.FAILED:
            raise ConnectionError(request.get_error_message())
        poll = select.poll()
        poll.register(
            request.socket, select.POLLIN if status == PollingStatus.READING else select.POLLOUT
        )
        if not poll.poll(max(deadline - monotonic(), 0) * 1000):
            raise TimeoutError("the server has not read a request to cancel")
