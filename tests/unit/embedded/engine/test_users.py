"""Who may log in, and what they may do where."""

from __future__ import annotations

import re

import pytest
from pamqp import encode

from mqkit.embedded.engine.node import Node
from mqkit.embedded.engine.users import Permissions, Users
from mqkit.embedded.errors import ReplyError


@pytest.fixture
def users() -> Users:
    """Two users."""
    return Users({"guest": "guest", "ann": "s3cret"})


def amqplain(**table: object) -> bytes:
    """The response of AMQPLAIN: a field table without its length."""
    return encode.field_table(table)[4:]  # type: ignore[arg-type]


def test_plain(users: Users) -> None:
    """PLAIN gives an (ignored) identity, a name and a password, with octets of 0 between them."""
    for identity in (b"", b"somebody"):
        user = users.log_in("PLAIN", identity + b"\0ann\0s3cret", from_loopback=False)
        assert user is users["ann"]


def test_amqplain(users: Users) -> None:
    """AMQPLAIN gives LOGIN and PASSWORD in a table."""
    response = amqplain(LOGIN="ann", PASSWORD="s3cret")
    assert users.log_in("AMQPLAIN", response, from_loopback=False) is users["ann"]


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("PLAIN", b"\0ann\0wrong"),
        ("PLAIN", b"\0ann\0"),
        ("PLAIN", b"\0nobody\0s3cret"),
        ("PLAIN", b"\0nobody\0"),
        ("PLAIN", b"\0\0"),
        ("PLAIN", b"ann\0s3cret"),
        ("PLAIN", b"\0ann\0s3cret\0"),
        ("PLAIN", b""),
        ("PLAIN", b"\0ann\0\xff\xfe"),
        ("AMQPLAIN", b"\x05LOGINS\xff\xff\xff\xff"),
        ("AMQPLAIN", b""),
        ("AMQPLAIN", amqplain(LOGIN="ann")),
        ("AMQPLAIN", amqplain(LOGIN="ann", PASSWORD="wrong")),
        ("AMQPLAIN", amqplain(LOGIN=1, PASSWORD="s3cret")),
        ("EXTERNAL", b"\0ann\0s3cret"),
    ],
)
def test_nobody_else_is_let_in(users: Users, mechanism: str, response: bytes) -> None:
    """Wrong passwords, unknown names and nonsense are nobody, without an error."""
    assert users.log_in(mechanism, response, from_loopback=True) is None


def test_guest_comes_from_this_machine_only(users: Users) -> None:
    """The user whose password everybody knows is refused from elsewhere, as with RabbitMQ."""
    assert users.log_in("PLAIN", b"\0guest\0guest", from_loopback=True) is users["guest"]
    assert users.log_in("PLAIN", b"\0guest\0guest", from_loopback=False) is None


def test_a_password_may_change(users: Users) -> None:
    """`add` of a name that is there changes the password and leaves the permissions."""
    users["ann"].permissions["/"] = Permissions.of()
    users.add("ann", "new")
    assert users.log_in("PLAIN", b"\0ann\0s3cret", from_loopback=True) is None
    assert users.log_in("PLAIN", b"\0ann\0new", from_loopback=True) is users["ann"]
    assert "/" in users["ann"].permissions


def test_a_deleted_user_is_nobody(users: Users) -> None:
    """After `delete`, which may be called twice, the name is unknown."""
    users.delete("ann")
    users.delete("ann")
    assert "ann" not in users
    assert users.log_in("PLAIN", b"\0ann\0s3cret", from_loopback=True) is None


def test_a_password_is_not_shown(users: Users) -> None:
    """Neither a user's nor the users' representation has a password in it."""
    assert "s3cret" not in repr(users["ann"])
    assert "s3cret" not in repr(users)


def test_permissions_are_searched_in_the_name(users: Users) -> None:
    """An expression may match anywhere in the name, and an empty one matches nothing."""
    users["ann"].permissions["/"] = Permissions.of("^own-", "", "x")
    users["ann"].check("configure", "queue", "own-q", "/")
    users["ann"].check("read", "queue", "a-x-b", "/")
    for permission, name in (("configure", "other"), ("write", ""), ("write", "own-q")):
        with pytest.raises(ReplyError, match=f"ACCESS_REFUSED - {permission} access to queue"):
            users["ann"].check(permission, "queue", name, "/")


def test_the_default_exchange_has_a_name_for_permissions(users: Users) -> None:
    """It is `amq.default` there, as with RabbitMQ."""
    users["ann"].permissions["/"] = Permissions.of(write="^amq.default$")
    users["ann"].check("write", "exchange", "", "/")


def test_no_permissions_is_no_access(users: Users) -> None:
    """A user may do nothing in a virtual host that no permissions were given for."""
    with pytest.raises(ReplyError, match="in vhost 'v' refused for user 'ann'"):
        users["ann"].check("read", "queue", "q", "v")


def test_a_broken_expression_is_refused() -> None:
    """It is an error when it is given, not when it is used."""
    with pytest.raises(re.error):
        Permissions.of(configure="(")


def test_the_first_users_may_do_everything_everywhere() -> None:
    """Virtual hosts that are added are open to the users that the broker began with only."""
    node = Node(users={"first": "x"})
    node.users.add("later", "y")
    node.add_vhost("v")
    for vhost in ("/", "v"):
        node.users["first"].check("configure", "queue", "q", vhost)
        with pytest.raises(ReplyError):
            node.users["later"].check("configure", "queue", "q", vhost)
    node.delete_vhost("v")
    assert set(node.users["first"].permissions) == {"/"}


def test_a_virtual_host_can_be_added_without_a_first_user() -> None:
    """Of the users that the broker began with, one that has been deleted is passed over."""
    node = Node(users={"first": "x", "second": "y"})
    node.users.delete("first")
    node.add_vhost("v")
    assert set(node.users["second"].permissions) == {"/", "v"}
    assert "first" not in node.users
