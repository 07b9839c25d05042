"""Broker URLs: what is read, what is refused, and what is never shown."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqkit.errors import BrokerUrlError
from mqkit.settings import BrokerUrl, Host, Tls


def test_a_full_url_is_read() -> None:
    """Every part of a URL ends in its own field, decoded."""
    url = BrokerUrl.parse(
        "amqps://us%40er:p%2Fw@one:5000,[::1],three/my%2Fvhost?heartbeat=5&connect_timeout=2.5"
        "&cafile=/ca.pem&server_name=broker"
    )
    assert url.hosts == (Host("one", 5000), Host("::1", 5671), Host("three", 5671))
    assert (url.username, url.password.get_secret_value()) == ("us@er", "p/w")
    assert (url.vhost, url.heartbeat, url.connect_timeout) == ("my/vhost", 5, 2.5)
    assert url.tls == Tls(cafile="/ca.pem", server_name="broker")


def test_defaults_are_rabbitmqs_own() -> None:
    """Without credentials, port and path it is guest on 5672 in the virtual host '/'."""
    url = BrokerUrl.parse("amqp://localhost")
    assert (url.hosts, url.username, url.vhost) == ((Host("localhost", 5672),), "guest", "/")
    assert url.tls is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:5672", "starts with amqp:// or amqps://"),
        ("http://localhost", "not 'http:'"),
        ("amqp:localhost", "lacks the '//'"),
        ("amqp://", "names no host"),
        ("amqp://a,,b", "a gap"),
        ("amqp://user@host", "user name 'user' but no password"),
        ("amqp://user:@host", "user name 'user' but no password"),
        ("amqp://:pw@host", "no user name"),
        ("amqp://host:0", "1 to 65535"),
        ("amqp://host:port", "1 to 65535"),
        ("amqp://[::1", "IPv6"),
        ("amqp://host/a/b", "%2F"),
        ("amqp://host/#x", "%23"),
        ("amqp://host?heartbeat=60s", "heartbeat='60s'"),
        ("amqp://host?heartbeat=0", "heartbeat='0'"),
        ("amqp://host?connect_timeout=-1", "connect_timeout='-1'"),
        ("amqp://host?connect_timeout=nan", "connect_timeout='nan'"),
        ("amqp://host?timeout=2", "use connect_timeout (in seconds)"),
        ("amqp://host?heartbeet=2", "use heartbeat"),
        ("amqp://host?zzz=2", "known are"),
        ("amqp://host?heartbeat=2&heartbeat=3", "twice"),
        ("amqp://host?verify=false", "needs amqps://"),
        ("amqps://host?verify=no", "true or false"),
        ("amqps://host?no_verify_ssl=false", "verify=false"),
        ("amqps://host?keyfile=k", "no certfile"),
    ],
)
def test_what_is_wrong_is_named(url: str, words: str) -> None:
    """A malformed or unknown part is refused with an error that names it."""
    with pytest.raises(BrokerUrlError) as caught:
        BrokerUrl.parse(url)
    assert words in str(caught.value)


@given(
    password=st.text(st.characters(codec="utf-8"), min_size=6).map(lambda text: f"PW{text}PW"),
    encoded=st.booleans(),
    tail=st.sampled_from(["", ":x", "/a/b", "?zzz=1", "#", "?heartbeat=x"]),
)
def test_a_password_is_never_shown(password: str, encoded: bool, tail: str) -> None:
    """Read or refused, no text of a URL or of its error holds the password."""
    written = quote(password, safe="") if encoded else password
    try:
        url = BrokerUrl.parse(f"amqp://user:{written}@host{tail}")
    except BrokerUrlError as error:
        shown = "".join(traceback.format_exception(error))
        shown = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    else:
        shown = f"{url} {url!r}"
        if encoded:
            assert url.password.get_secret_value() == password
    assert password not in shown
    assert written not in shown


@pytest.mark.parametrize(
    "made",
    [
        {"password": "sesame"},
        {"username": 3},
        {"vhost": None},
        {"tls": True},
        {"hosts": [Host("h", 1)]},
        {"hosts": ()},
    ],
)
def test_what_is_made_by_hand_is_checked(made: dict[str, Any]) -> None:
    """A field of another type is named, and a password that repr() would show is refused unseen."""
    with pytest.raises(BrokerUrlError, match=next(iter(made))) as caught:
        BrokerUrl(**{"hosts": (Host("h", 1),), **made})
    assert "sesame" not in str(caught.value)


def test_the_text_of_a_url_can_be_read_again() -> None:
    """str() gives the URL without its password and nothing else changed."""
    text = str(BrokerUrl.parse("amqp://a%40b:secret@h1:1,[::1]:2/v%2Fh"))
    assert text == "amqp://a%40b@h1:1,[::1]:2/v%2Fh"
