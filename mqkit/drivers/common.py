"""Constants and functions that the drivers share: close reasons, TLS, logging."""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Mapping
from typing import Any

from mqkit.drivers.base import Closed
from mqkit.errors import BrokerUrlError
from mqkit.logging.error_reports import log_error
from mqkit.settings import Tls

logger = logging.getLogger(__name__)

FRAME_OVERHEAD = 8
"""Bytes of a frame that are not its payload (AMQP 0-9-1, section 4.2.3)."""

CLOSE_TIMEOUT = 3.0
"""Seconds to wait for the broker's close-ok before the stream is dropped."""

INTERNAL_ERROR = 541
"""The reply code of a peer that fails (AMQP 0-9-1, section 1.2 "Constants")."""

DEFECT = "this side could not deal with a frame"
"""Why this side closes a channel after `defect`."""

BY_US = "Normal shutdown"
"""Why a connection or channel closed that this side closed."""

NOT_OPEN = Closed(0, "the connection is closed")
"""Why a connection opens no channel."""


def product(server_properties: Mapping[str, Any]) -> str:
    """Name the broker's product and version, from what it tells of itself in `connection.start`."""
    return f"{server_properties.get('product', 'broker')} {server_properties.get('version', '?')}"


def defect() -> None:
    """Log the exception that dealing with a frame, or a callback for it, has just raised.

    The rule of all drivers: it must not rise into the client library, which would end the
    connection under all consumers. Whoever calls this closes the frame's channel, and no more.
    """
    error = sys.exception()
    assert error is not None, "it is called where one is handled"
    text = "a channel is closed: a frame could not be dealt with"
    log_error(logger, logging.CRITICAL, text, error=error)


def quiet(*loggers: str, level: int = logging.CRITICAL) -> None:
    """Set a client library's loggers to `level`, unless the application chose one for them.

    It logs the same failures that mqkit raises; and bodies, headers and tokens with them.
    """
    for name in loggers:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(level)


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Make the TLS context by which the broker's certificate is checked, and this side's is sent.

    :raises BrokerUrlError: the URL's TLS files cannot be used
    """
    try:
        context = ssl.create_default_context(cafile=tls.cafile)
        if tls.certfile:
            context.load_cert_chain(tls.certfile, tls.keyfile)
    except (OSError, ssl.SSLError) as error:
        raise BrokerUrlError(
            f"the TLS files of the broker URL cannot be used "
            f"(cafile={tls.cafile!r}, certfile={tls.certfile!r}, keyfile={tls.keyfile!r}): {error}"
        ) from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
