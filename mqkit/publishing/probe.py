"""The probe: a message to nowhere, sent before a publish to find out whether an alarm is on.

RabbitMQ tells a connection of an alarm only once it publishes, and stores that publish when the
alarm ends (seen on 4.0.5 and 4.3.6, even if the connection is closed meanwhile). So a message that
routes nowhere goes first, and nothing real is written while it is unanswered.
"""

from __future__ import annotations

import logging

from mqkit.message import Message, Properties

PROBE_AFTER = 1.0
"""Seconds without a confirm after which a probe goes before the next publish.

An alarm that begins within this time of a confirm is still met by real publishes; those are
unknown.
"""

PROBE = Message(
    exchange="", routing_key="", body=b"?", properties=Properties(persistent=False), mandatory=False
)
"""Its body is not empty: with an alarm on, RabbitMQ stops reading before a body, so that a message
without one is still confirmed (seen on 4.0.5 and 4.3.6)."""


def log_refused_probe(logger: logging.Logger, connection: str, why: str = "") -> None:
    """Warn that the broker refused a probe, so that none goes over this connection any more."""
    logger.warning(
        "%s: the broker does not let this user probe for alarms%s; during one, the first publish "
        "will be written and its result unknown",
        connection,
        why and f" ({why})",
    )
