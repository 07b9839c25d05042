"""Which of mqkit's own headers are believed where a message comes in: the rule of trust.

Whoever publishes through mqkit cannot set them, but any other client can. Believed, they would
change what becomes of a message: `mqkit-attempt: 99` has no retry left, `mqkit-exchange` says that
it came from elsewhere. So they count on a delivery that came by mqkit's own way only:

- **Retries** come out of the delay ladder, and their delivery names an exchange of it. All of
  mqkit's headers are believed. Who may write to exchanges under `mqkit.delay.v1.` is trusted by
  this; RabbitMQ's permissions keep others out
  (https://www.rabbitmq.com/docs/access-control#authorisation).
- **Dead letters**, in a queue `<queue>.dead` that a handler consumes, come by the default exchange
  under the queue's own name, from mqkit or from the broker. What they tell of the failure is shown
  and carried along. The attempts of their former life do not count: the handler's begin at 1.
  Anybody who may publish to the default exchange can write such a dead letter, and with it what
  its headers say of its origin. That is information and steers nothing in mqkit; a handler that
  publishes to where they point decides on that itself.
- On **all other** deliveries they are dropped.

The number of a publish (`mqkit-publish`) is for the publisher's connection alone and always goes.
`mqkit-unreadable` always stays: a driver adds it where it leaves out headers that cannot be
decoded, and the message is dead-lettered. An outsider who writes it does that to a message of
their own.
"""

from __future__ import annotations

import logging
from typing import Any

from mqkit.broker.delays import PREFIX
from mqkit.drivers.base import Incoming
from mqkit.logging.shown import shown
from mqkit.message import RESERVED_PREFIX, Header
from mqkit.topology import DEAD_SUFFIX

logger = logging.getLogger(__name__)

_LADDER = f"{PREFIX}."

_OF_A_FORMER_LIFE = frozenset({Header.ATTEMPT, Header.ELAPSED, Header.TIME_TO_LIVE})


def drop_unbelievable(incoming: Incoming, queue: str) -> None:
    """Take from a delivery, which nobody else has seen yet, the headers that are not believed.

    Copies carry over only what is left (`mqkit.amqp.content_header.carry`), by the same names.
    """
    # A driver makes a dict for each delivery; changing it costs a tenth of new properties.
    headers: Any = incoming.properties.headers
    if not headers:
        return
    headers.pop(Header.PUBLISH, None)
    if not headers or incoming.exchange.startswith(_LADDER):
        return
    foreign = [name for name in headers if name.startswith(RESERVED_PREFIX)]
    if Header.UNREADABLE in foreign:
        foreign.remove(Header.UNREADABLE)
    if not foreign:
        return
    if _is_dead_letter(incoming, queue):
        foreign = [name for name in foreign if name in _OF_A_FORMER_LIFE]
    for name in foreign:
        del headers[name]
    logger.debug(
        "%s: message %s came with headers that only mqkit may set: %d are dropped",
        queue,
        shown(incoming.properties.message_id),
        len(foreign),
    )


def _is_dead_letter(incoming: Incoming, queue: str) -> bool:
    return not incoming.exchange and incoming.routing_key == queue and queue.endswith(DEAD_SUFFIX)
