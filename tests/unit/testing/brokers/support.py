"""A server that stands in the place of a broker, as far as a probe looks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from pamqp import commands, frame


@contextlib.contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Send `answer` to every connection once it has said anything; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(100)
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"amqp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def start_frame() -> bytes:
    """Write a `connection.start` of version 4.9.9."""
    start = commands.Connection.Start(server_properties={"version": "4.9.9"})
    return frame.marshal(start, 0)
