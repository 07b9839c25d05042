from __future__ import annotations

import pytest

from mqkit.errors import PublishError, RequestError


@pytest.mark.parametrize(("kind", "noun"), [(PublishError, "message"), (RequestError, "request")])
@pytest.mark.parametrize(
    ("exchange", "where"), [("orders", "exchange 'orders'"), ("", "the default exchange")]
)
def test_an_error_of_an_outgoing_message_says_which(
    kind: type[PublishError | RequestError], noun: str, exchange: str, where: str
) -> None:
    """Its text names the message, where it went and what happened; so do its attributes."""
    error = kind("it is lost", exchange=exchange, routing_key="a.b", message_id="m-1")
    assert str(error) == f"{noun} m-1 to {where} with routing key 'a.b': it is lost"
    found = (error.problem, error.exchange, error.routing_key, error.message_id)
    assert found == ("it is lost", exchange, "a.b", "m-1")
