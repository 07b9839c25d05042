"""The errors of publishes that the background thread did not carry through."""

from __future__ import annotations

import sys

from mqkit.blocking.background import BackgroundEndedError, NoThreadError
from mqkit.errors import PublisherClosedError, PublishError
from mqkit.message import Message
from mqkit.publishing.verdicts import connection_lost, publish_error

AT_EXIT = (
    "the interpreter is at its end, where no thread runs any more: publish before the program "
    "ends, and not in a `__del__`"
)


def publish_failure(message: Message, why: BackgroundEndedError | NoThreadError) -> PublishError:
    """Make the error of a message that came too late, or was cut off."""
    if isinstance(why, NoThreadError):
        # The interpreter is at its end (Python 3.12 and later), or out of threads.
        problem = f"no thread for its connection: {why}; nothing was written"
        return connection_lost(message, problem, written=False)
    if why.begun:
        problem = "the publisher was closed before the confirm came; it may be stored"
    else:
        problem = AT_EXIT if sys.is_finalizing() else "the publisher is closed"
    error = publish_error(PublisherClosedError, message, problem)
    error.may_be_stored = why.begun
    return error
