"""What a user may do, in the words of RabbitMQ 4.3, from which these refusals were taken."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from mqkit.embedded.engine.node import Node
from mqkit.embedded.engine.users import Permissions
from tests.unit.embedded.support import Client, opened, publish

MINE = Permissions.of("^my-", "^my-", "^my-")

Q, X = commands.Queue, commands.Exchange


@pytest.fixture
def client() -> Client:
    """A client whose user may do everything with names that begin with my-, and nothing else"""
    node = Node()
    client = opened(node)
    for prefix in ("my", "other"):
        client.declare(f"{prefix}-q", durable=True)
        client.call(X.Declare(0, f"{prefix}-x", durable=True), X.DeclareOk)
    node.users["guest"].permissions["/"] = MINE
    return client


def refusal(permission: str, what: str) -> str:
    """RabbitMQ's words for it."""
    return f"ACCESS_REFUSED - {permission} access to {what} in vhost '/' refused for user 'guest'"


@pytest.mark.parametrize(
    ("method", "permission", "what"),
    [
        (Q.Declare(0, "other-q", durable=True), "configure", "queue 'other-q'"),
        (Q.Declare(0, "other-q", passive=True), "configure", "queue 'other-q'"),
        (Q.Delete(0, "other-q"), "configure", "queue 'other-q'"),
        (Q.Delete(0, "other-none"), "configure", "queue 'other-none'"),
        (Q.Purge(0, "other-q"), "read", "queue 'other-q'"),
        (Q.Bind(0, "other-q", "my-x"), "write", "queue 'other-q'"),
        (Q.Bind(0, "other-none", "my-x"), "write", "queue 'other-none'"),
        (Q.Bind(0, "my-q", "other-x"), "read", "exchange 'other-x'"),
        (Q.Unbind(0, "my-q", "other-x"), "read", "exchange 'other-x'"),
        (X.Declare(0, "other-x", durable=True), "configure", "exchange 'other-x'"),
        (X.Declare(0, "amq.direct", passive=True), "configure", "exchange 'amq.direct'"),
        (X.Delete(0, "other-x"), "configure", "exchange 'other-x'"),
        (X.Bind(0, "other-x", "my-x"), "write", "exchange 'other-x'"),
        (X.Bind(0, "my-x", "other-x"), "read", "exchange 'other-x'"),
        (X.Unbind(0, "my-x", "other-x"), "read", "exchange 'other-x'"),
        (commands.Basic.Get(0, "other-q"), "read", "queue 'other-q'"),
        (commands.Basic.Get(0, "other-none"), "read", "queue 'other-none'"),
        (commands.Basic.Consume(0, "other-q"), "read", "queue 'other-q'"),
        (
            Q.Declare(0, "my-new", arguments={"x-dead-letter-exchange": "other-x"}),
            "write",
            "exchange 'other-x'",
        ),
        (
            X.Declare(0, "my-new", arguments={"alternate-exchange": "other-x"}),
            "write",
            "exchange 'other-x'",
        ),
    ],
)
def test_what_is_not_permitted_closes_the_channel(
    client: Client, method: Any, permission: str, what: str
) -> None:
    """Each method needs its permission on each name in it, whether or not that is there."""
    client.send(method)
    close = client.last()
    assert isinstance(close, commands.Channel.Close)
    assert (close.reply_code, close.reply_text) == (403, refusal(permission, what))


@pytest.mark.parametrize(
    "permissions", [("^my-", "x", "x"), ("x", "^my-", "x"), ("x", "x", "^my-")]
)
def test_any_permission_is_enough_to_look(
    client: Client, permissions: tuple[str, str, str]
) -> None:
    """A passive declare asks for one of the three, whichever it is."""
    client.node.users["guest"].permissions["/"] = Permissions.of(*permissions)
    client.call(Q.Declare(0, "my-q", passive=True), Q.DeclareOk)
    client.call(X.Declare(0, "my-x", passive=True), X.DeclareOk)


@pytest.mark.parametrize(("exchange", "shown"), [("other-x", "other-x"), ("", "amq.default")])
def test_publishing_needs_write(client: Client, exchange: str, shown: str) -> None:
    """Publishing needs write permission on the exchange; the default one is named amq.default."""
    client.send_bytes(publish(exchange, "my-q"))
    close = client.last()
    assert isinstance(close, commands.Channel.Close)
    assert close.reply_text == refusal("write", f"exchange '{shown}'")


def test_a_name_of_the_brokers_own_needs_configure(client: Client) -> None:
    """A queue that the broker names needs configure permission on the name it would get."""
    client.send(Q.Declare(0, "", exclusive=True))
    close = client.last()
    assert isinstance(close, commands.Channel.Close)
    assert close.reply_text.startswith("ACCESS_REFUSED - configure access to queue 'amq.gen-")


def test_what_is_permitted_is_done(client: Client) -> None:
    """Names that all three expressions match can be used in every way."""
    client.call(Q.Bind(0, "my-q", "my-x", "key"), Q.BindOk)
    client.send_bytes(publish("my-x", "key"))
    assert client.depth("my-q") == 1
    client.call(Q.Purge(0, "my-q"), Q.PurgeOk)
    client.call(Q.Unbind(0, "my-q", "my-x", "key"), Q.UnbindOk)
    client.call(Q.Declare(0, "my-new", arguments={"x-dead-letter-exchange": "my-x"}), Q.DeclareOk)
    client.call(Q.Delete(0, "my-q"), Q.DeleteOk)
    client.call(X.Delete(0, "my-x"), X.DeleteOk)


def test_a_virtual_host_without_permissions_is_refused() -> None:
    """A user with no permissions in a virtual host cannot open it: 530, naming both."""
    node = Node()
    del node.users["guest"].permissions["/"]
    client = Client(node)
    client.start()
    client.send(commands.Connection.TuneOk(2047, 131072, 0), commands.Connection.Open(), channel=0)
    close = client.last()
    assert isinstance(close, commands.Connection.Close)
    text = "NOT_ALLOWED - access to vhost '/' refused for user 'guest'"
    assert (close.reply_code, close.reply_text) == (530, text)
