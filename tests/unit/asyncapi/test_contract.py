"""What others rely on is read from all that a document says of it."""

from __future__ import annotations

from mqkit.asyncapi.comparing import differences
from mqkit.asyncapi.reading import Reader
from tests.unit.asyncapi.support import made


def test_a_binding_of_one_queue_that_goes_breaks_though_others_have_it() -> None:
    """What comes to another queue, or is sent there, does not come to this one any more."""
    key = {"address": "a.#", "bindings": {"amqp": {"exchange": {"name": "x"}}}}
    old, new = made(), made()
    for document in (old, new):
        document["channels"]["b"] = key
        document["operations"]["s"] = {"action": "send", "channel": {"$ref": "#/channels/b"}}
    old["operations"]["o"]["x-bound-to"] = [{"$ref": "#/channels/b"}]
    (found,) = differences(Reader(old, "old"), Reader(new, "new"))
    assert (found.where, found.breaking) == ("receive queue orders", True)
    assert found.what.startswith("is not bound to exchange x, key 'a.#' any more")
    (again,) = differences(Reader(new, "old"), Reader(old, "new"))
    assert (again.what, again.breaking) == ("is bound to exchange x, key 'a.#' as well", False)
