"""Asks whether a broker is there, by the first step of the AMQP 0-9-1 handshake.

It is done on a bare socket, so that finding a broker depends on no client library; nothing is
logged in to, so it needs no credentials.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable

from pamqp import commands
from pamqp import exceptions as pamqp_exceptions
from pamqp import frame as pamqp_frame

from mqkit.errors import ConnectError
from mqkit.settings import BrokerUrl, Host

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
"""AMQP 0-9-1, section 4.2.2 "Protocol Header"."""

POLL_INTERVAL = 0.1
"""Seconds between two attempts while a broker starts."""

ATTEMPT_TIMEOUT = 3.0
"""Seconds that one attempt may take; a proxy may accept long before its broker listens."""

PORTS = range(20000, 32000)

_FRAME_HEADER = struct.Struct(">BHI")
_LARGEST_START_FRAME = 65536


def wait_until_ready(
    url: BrokerUrl, *, timeout: float, ended: Callable[[], str | None] = lambda: None
) -> str:
    """Wait until a broker speaks AMQP at one of the URL's hosts; returns its version.

    :param timeout: seconds
    :param ended: says why the broker can no longer come up, None while it can
    :raises ConnectError: it did not within `timeout`, or `ended` gave a reason
    """
    deadline = time.monotonic() + timeout
    while True:
        problems = []
        for host in url.hosts:
            left = max(deadline - time.monotonic(), 0.1)
            try:
                return read_version(url, host, timeout=min(left, ATTEMPT_TIMEOUT))
            except ConnectError as exc:
                problems.append(str(exc))
        reason = ended()
        if reason is None and time.monotonic() >= deadline:
            reason = f"no broker within {timeout:.0f} s"
        if reason is not None:
            raise ConnectError(f"{reason}; the last attempt: {', '.join(problems)}")
        time.sleep(POLL_INTERVAL)


def read_version(url: BrokerUrl, host: Host, *, timeout: float) -> str:
    """Ask one host for `connection.start` and return the version in its server properties.

    :param timeout: seconds
    :raises ConnectError: nothing listens there, or it does not speak AMQP 0-9-1
    """
    try:
        with _connect(url, host, timeout) as stream:
            stream.sendall(PROTOCOL_HEADER)
            header = _read(stream, _FRAME_HEADER.size)
            if header.startswith(b"AMQP"):
                raise ConnectError(f"{host} speaks another version of AMQP than 0-9-1")
            size = _FRAME_HEADER.unpack(header)[2]
            if size > _LARGEST_START_FRAME:
                raise ConnectError(f"{host} does not speak AMQP")
            start = pamqp_frame.unmarshal(header + _read(stream, size + 1))[2]
    except OSError as exc:
        raise ConnectError(f"{host}: {exc}") from exc
    except (pamqp_exceptions.PAMQPException, ValueError, struct.error) as exc:
        raise ConnectError(f"{host} does not speak AMQP") from exc
    if not isinstance(start, commands.Connection.Start):
        raise ConnectError(f"{host} does not begin with connection.start")
    version = (start.server_properties or {}).get("version", "unknown")
    return version.decode() if isinstance(version, bytes) else str(version)


def free_ports(count: int) -> list[int]:
    """Return different TCP ports of the loopback interface that nothing listens on.

    They lie below the range that Linux and macOS take outgoing ports from. In that range, a
    client that keeps connecting to its stopped broker would in time be given the broker's own
    port to connect from, reach itself, and hold the port when the broker comes back.

    :raises ConnectError: there are not that many
    """
    ports: list[int] = []
    # Drawn one by one: to shuffle them all took 10 ms, for each proxy and each embedded broker.
    for _ in range(len(PORTS)):
        if len(ports) == count:
            return ports
        port = random.choice(PORTS)
        if port in ports:
            continue
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            ports.append(port)
    raise ConnectError(f"no {count} free TCP ports in {PORTS.start} to {PORTS.stop - 1}")


def _connect(url: BrokerUrl, host: Host, timeout: float) -> socket.socket:
    stream = socket.create_connection((host.name, host.port), timeout=timeout)
    if url.tls is None:
        return stream
    try:
        context = ssl.create_default_context(cafile=url.tls.cafile)
        if not url.tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if url.tls.certfile:
            context.load_cert_chain(url.tls.certfile, url.tls.keyfile)
        return context.wrap_socket(stream, server_hostname=url.tls.server_name or host.name)
    except BaseException:
        stream.close()
        raise


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise ConnectionError("it closed the connection during the handshake")
        data += piece
    return data
