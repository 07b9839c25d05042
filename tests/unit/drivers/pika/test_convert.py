"""What pika says, in mqkit's words."""

from __future__ import annotations

import pytest
from pika import exceptions

from mqkit.drivers.pika.convert import connect_error
from mqkit.errors import AuthenticationError, ConnectError
from mqkit.settings import BrokerUrl

URL = BrokerUrl.parse("amqp://guest:guest@broker/")

REFUSED = exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED - Login was refused")


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (REFUSED, AuthenticationError),
        (exceptions.StreamLostError("Transport indicated EOF"), ConnectError),
        (exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - shutdown"), ConnectError),
    ],
    ids=["refused", "lost", "stopped"],
)
def test_only_a_broker_that_says_so_has_refused_the_password(
    end: Exception, kind: type[ConnectError]
) -> None:
    """A connection that is lost while it logs in is tried again, as at any other moment."""
    error = exceptions.ProbableAuthenticationError(repr(end))
    assert type(connect_error(error, URL, URL.hosts[0])) is kind
