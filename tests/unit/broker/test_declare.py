"""The broker's refusals in a person's words."""

from __future__ import annotations

import pytest

from mqkit.broker.declare import explain


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        (
            406,
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'X' in vhost '/': "
                "received 'true' but current is 'false'"
            ),
            "queue X: durable is false on the broker, true here",
        ),
        (
            406,
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'X' in vhost "
                "'/': received the value '7' of type 'signedint' but current is the value '5' of "
                "type 'signedint'"
            ),
            "queue X: x-delivery-limit is 5 on the broker, 7 here",
        ),
        (
            406,
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'X' in vhost "
                "'/': received the value '20' of type 'signedint' but current is none"
            ),
            "queue X: x-delivery-limit is not set on the broker, 20 here",
        ),
        (404, "NOT_FOUND - no queue 'X' in vhost '/'", "queue X: it does not exist"),
        (403, "ACCESS_REFUSED - refused", "queue X: this user has no permission"),
        (405, "RESOURCE_LOCKED - locked", "queue X: another connection holds it exclusively"),
        (541, "INTERNAL_ERROR", "queue X: INTERNAL_ERROR (541)"),
    ],
)
def test_a_refusal_is_explained(code: int, text: str, words: str) -> None:
    """The name, what the broker has, and what is declared here."""
    assert explain("queue X", code, text).startswith(words)
