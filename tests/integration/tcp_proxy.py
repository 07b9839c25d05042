"""A TCP relay in front of a broker that can fall silent, as a broken network does."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from mqkit.settings import BrokerUrl

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
"""A heartbeat frame (AMQP 0-9-1, section 4.2.7)."""


class TcpProxy:
    """Relays to the broker of `url`; a context manager. `url` is its own."""

    def __init__(self, url: str) -> None:
        broker = BrokerUrl.parse(url)
        self._target = (broker.hosts[0].name, broker.hosts[0].port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = (
            f"amqp://{broker.username}:{broker.password.get_secret_value()}@127.0.0.1:{port}/"
        )
        self.connections = 0
        self.sent_heartbeats = 0
        """Heartbeats that clients sent."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._forgotten: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flowing.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def stall(self) -> None:
        """Relay nothing until `resume`; connections are still accepted."""
        self._flowing.clear()

    def resume(self) -> None:
        """Relay what has piled up, and go on."""
        self._flowing.set()

    def forget(self) -> None:
        """Never relay on the present connections again, without closing them."""
        self._forgotten.update(self._sockets)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(self._target)
                self._sockets.append(server)
                self.connections += 1
                self._start(self._relay, client, server, True)
                self._start(self._relay, server, client, False)

    def _relay(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if from_client:
                    self.sent_heartbeats += data.count(HEARTBEAT)
                self._flowing.wait()
                if source not in self._forgotten:
                    target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
