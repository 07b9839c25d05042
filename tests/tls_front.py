"""A listener in front of a broker that speaks TLS, and asks for a client certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from mqkit import BrokerUrl

CERTIFICATES = Path(__file__).parent / "certificates"
"""For these tests alone: `ca` has signed `server`, `client` and `renewed`, and not `stranger`."""


class TlsFront:
    """Ends TLS, and relays to the first host of a broker's URL; a context manager.

    In threads, with the `ssl` module's blocking sockets: asyncio's (3.11) send no alert to whom
    they refuse, which RabbitMQ does.
    """

    def __init__(self, url: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self._url = BrokerUrl.parse(url)
        self._context = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=str(CERTIFICATES / "ca.pem")
        )
        self._context.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.maximum_version = version
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])

    def url(self, *, tls: bool = True, certificate: str = "", **parameters: object) -> str:
        """A URL that goes here, with one of the tests' client certificates."""
        password = self._url.password.get_secret_value()
        if certificate:
            parameters["certfile"] = CERTIFICATES / f"{certificate}.pem"
            parameters["keyfile"] = CERTIFICATES / f"{certificate}.key"
        if tls:
            parameters.setdefault("cafile", CERTIFICATES / "ca.pem")
        scheme = "amqps" if tls else "amqp"
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"{scheme}://{self._url.username}:{password}@localhost:{self.port}/?{query}"

    def cut(self) -> None:
        """End all connections."""
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        host = self._url.hosts[0]
        try:
            with (
                self._context.wrap_socket(plain, server_side=True) as client,
                socket.create_connection((host.name, host.port)) as broker,
                self._noted(client, broker),
            ):
                back = threading.Thread(target=_pump, args=(broker, client), daemon=True)
                back.start()
                _pump(client, broker)
                back.join()
        except OSError:  # SSLError is one: its alert is sent
            # Not before the client has read the alert: what it still sends would reset the stream.
            with contextlib.suppress(OSError):
                plain.close()

    @contextlib.contextmanager
    def _noted(self, *sockets: socket.socket) -> Iterator[None]:
        self._open.update(sockets)
        try:
            yield
        finally:
            self._open.difference_update(sockets)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until either side ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
