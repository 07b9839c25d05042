"""Why a connection could not be opened, in words that say what to do."""

from __future__ import annotations

import ssl

import pytest

from mqkit import BrokerUrl
from mqkit.drivers import refusals
from mqkit.settings import Host

HOST = Host("broker.example", 5671)


def said(error: BaseException, url: str = "amqps://h/") -> str:
    """The text for an error, which names the host."""
    text = str(refusals.no_connection(BrokerUrl.parse(url), HOST, error))
    assert "broker.example" in text
    return text


def wrapped(reason: str) -> list[BaseException]:
    """An error of OpenSSL's as it is, and as the client libraries wrap its text."""
    error = ssl.SSLError(1, f"[SSL: {reason}] EOF occurred in lower case (_ssl.c:1006)")
    lost = OSError(f"Stream connection lost: {error!r}")
    chained = ValueError("something else")
    chained.__cause__ = error
    return [error, lost, RuntimeError(repr(lost)), ExceptionGroup("g", [error]), chained]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "asks for a TLS client certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "asks for a TLS client certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "asks for a TLS client certificate"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "refused the TLS handshake"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "refused the TLS handshake"),
        ("WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("RECORD_LAYER_FAILURE", "does not speak TLS"),
        ("HTTP_REQUEST", "does not speak TLS"),
        ("UNEXPECTED_EOF_WHILE_READING", "may want a TLS client certificate"),
        ("CERTIFICATE_VERIFY_FAILED", "in lower case"),
        ("NO_CIPHERS_AVAILABLE", "in lower case"),
    ],
)
def test_a_reason_of_openssls_is_told(reason: str, words: str) -> None:
    """Wherever in the chain of errors and texts it stands."""
    for error in wrapped(reason):
        assert words in said(error)


@pytest.mark.parametrize("reason", ["SSLV3_ALERT_CERTIFICATE_EXPIRED", "TLSV1_ALERT_UNKNOWN_CA"])
def test_a_certificate_of_the_url_is_refused_and_not_asked_for(reason: str) -> None:
    """Whoever gave one is not told to give one."""
    for error in wrapped(reason):
        text = said(error, "amqps://h/?certfile=c")
        assert "refused the TLS client certificate of the URL" in text


def test_a_stream_that_ended_is_told_with_what_may_be_behind_it() -> None:
    """By what the URL has: no TLS, no certificate, or one."""
    error = OSError("StreamLostError: ('Transport indicated EOF',)")
    assert "may want TLS (amqps://)" in said(error, "amqp://h/")
    assert "may want a TLS client certificate" in said(error)
    assert "may have refused the TLS client certificate" in said(error, "amqps://h/?certfile=c")
    assert "reset by peer" in said(ConnectionResetError(104, "reset by peer"), "amqp://h/")


@pytest.mark.parametrize("url", ["amqp://h/", "amqps://h/", "amqps://h/?server_name=.s"])
def test_a_name_that_no_host_can_have_is_told(url: str) -> None:
    """It is the host's, or the one that the certificate is checked against."""
    with pytest.raises(UnicodeError) as caught:
        "a..b".encode("idna")
    error = UnicodeError(f"encoding with 'idna' codec failed ({caught.value!r})")
    for each in (error, OSError(error)):
        text = said(each, url)
        assert "'broker.example'" in text
        assert "cannot be the name of a host" in text
        assert ("'.s'" in text) == ("server_name" in url)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (b"", None),
        (b"\1", None),
        (b"\1\0\0", None),
        (b"\x15", refusals.NO_FRAME),
        (b"\x15\3\3\0\2", refusals.TLS_RECORD),
        (b"HTTP/1.1", refusals.NO_FRAME),
        (b"AMQP\0\1\0\0", refusals.NO_FRAME),
    ],
)
def test_a_stranger_is_known_by_its_first_words(words: bytes, problem: str | None) -> None:
    """A broker begins with a method's frame."""
    assert refusals.stranger(words) == problem
    if problem is not None:
        assert ("speaks TLS" in said(ValueError(problem))) == (problem == refusals.TLS_RECORD)


def test_errors_that_are_each_others_cause_come_to_an_end() -> None:
    """What was raised while another was handled may refer back to it."""
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one
    assert said(one).endswith("one")
