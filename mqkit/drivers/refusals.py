"""Makes the errors of connections that could not be opened, in words that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mqkit.errors import AuthenticationError, ConnectError, VirtualHostError
from mqkit.settings import BrokerUrl, Host
from mqkit.system.reasons import root_text

NO_FRAME = "the first byte begins no AMQP frame"
"""Of a peer that is no broker."""

TLS_RECORD = "the first bytes begin a TLS record"
"""Of a peer that wants to be spoken to with TLS."""

METHOD_FRAME = 1
"""The first byte that a broker says (AMQP 0-9-1, section 4.2.3)."""

_TLS_ALERT = b"\x15\x03"
"""How a TLS alert begins (RFC 8446, section 5.1), which answers what is no TLS."""

_SSL_REASON = re.compile(r"\[SSL: (\w+)\]")
"""OpenSSL's word; in texts, for pika hands on no exception, but texts of texts of it."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""What OpenSSL says of a peer whose words are no TLS, in its versions."""

_OF_A_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")
"""What is in the names of the alerts that are about this side's certificate (RFC 8446, 6.2).

Before TLS 1.3 a `handshake_failure` may be about it, too.
"""

_ENDED = ("Transport indicated EOF", "IncompatibleProtocolError")
"""What is in the texts of streams that the peer ended before it spoke: pika (1.4.4) says both."""

_ENDED_TLS = (*_ENDED, "EOF occurred", "ConnectionReset", "reset by")
"""As `_ENDED`, with TLS: which is where a server may end a stream that it refuses."""


def stranger(words: bytes) -> str | None:
    """Say what is wrong with the first bytes of a peer; None where they may be a broker's."""
    if not words or words[0] == METHOD_FRAME:
        return None
    return TLS_RECORD if words.startswith(_TLS_ALERT) else NO_FRAME


def login_refused(host: Host) -> AuthenticationError:
    """Make the error for a user name and password that the broker refuses."""
    return AuthenticationError(
        f"the broker at {host} refused the user name and password of the URL"
    )


def vhost_refused(host: Host, vhost: str) -> VirtualHostError:
    """Make the error for a virtual host that the broker refuses."""
    return VirtualHostError(
        f"the broker at {host} refused the virtual host {vhost!r}: it does not exist, or "
        "this user has no permission for it"
    )


def not_amqp(host: Host) -> ConnectError:
    """Make the error for a peer that is no broker."""
    return ConnectError(f"what listens at {host} does not speak AMQP 0-9-1")


def not_in_time(host: Host, within: float) -> ConnectError:
    """Make the error for a connection that was not open within so many seconds."""
    return ConnectError(f"the broker at {host} did not open the connection within {within:g} s")


def no_connection(url: BrokerUrl, host: Host, error: BaseException) -> ConnectError:
    """Make the error for a connection that could not be opened for any other reason."""
    texts = list(_texts(error))
    if any("'idna' codec" in text for text in texts):
        given = url.tls.server_name if url.tls is not None else None
        name = f"{host.name!r}" + (f", or server_name={given!r} of the URL," if given else "")
        return ConnectError(f"{name} cannot be the name of a host: {root_text(error)}")
    if any(TLS_RECORD in text for text in texts):
        return ConnectError(
            f"what listens at {host} speaks TLS: write amqps:// in the URL, or give the port for "
            "amqp:// (5672, where the broker has the usual ones)"
        )
    if any(NO_FRAME in text for text in texts):
        return not_amqp(host)
    reason = next((found[1] for text in texts if (found := _SSL_REASON.search(text))), "")
    problem = _tls_problem(url, host, reason) if url.tls is not None else None
    # A certificate that this side does not trust is told by what is innermost.
    if problem is None and (not reason or "EOF" in reason):
        signs = _ENDED if url.tls is None else _ENDED_TLS
        ended = any(sign in text for text in texts for sign in signs)
        problem = no_word(url, host) if ended else None
    why = root_text(error)
    if reason and reason not in why:
        why = next(text for text in texts if reason in text)
    return problem or ConnectError(f"no connection to the broker at {host}: {why}")


def no_word(url: BrokerUrl, host: Host) -> ConnectError:
    """Make the error for a peer that ended the stream before it said anything."""
    if url.tls is None:
        why = "it may want TLS (amqps://)"
    elif url.tls.certfile:
        why = "it may have refused the TLS client certificate (certfile and keyfile)"
    else:
        why = "it may want a TLS client certificate, and the URL has none (certfile and keyfile)"
    return ConnectError(
        f"no connection to the broker at {host}: it ended the stream without a word; {why}"
    )


def _tls_problem(url: BrokerUrl, host: Host, reason: str) -> ConnectError | None:
    alert = reason.lower().replace("_", " ")
    if "ALERT" in reason and any(word in reason for word in _OF_A_CERTIFICATE):
        if url.tls is not None and url.tls.certfile:
            return ConnectError(
                f"the broker at {host} refused the TLS client certificate of the URL ({alert}): "
                "certfile and keyfile must be of one that it trusts"
            )
        return ConnectError(
            f"the broker at {host} asks for a TLS client certificate, and the URL has none "
            f"({alert}): give it by certfile and keyfile"
        )
    if "ALERT" in reason:
        return ConnectError(
            f"the broker at {host} refused the TLS handshake ({alert}): its TLS versions, or the "
            "TLS client certificate (certfile and keyfile), may not be those of this side"
        )
    if reason in _NO_TLS:
        return ConnectError(
            f"what listens at {host} does not speak TLS ({alert}): write amqp:// in the URL, or "
            "give the port for amqps:// (5671, where the broker has the usual ones)"
        )
    return None


def _texts(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and of all errors behind it."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseException):
            yield f"{type(each).__name__}: {each}"
            waiting += [each.__cause__, each.__context__, *each.args]
            waiting += [getattr(each, "exception", None), *getattr(each, "exceptions", ())]
        elif isinstance(each, str):
            yield each
