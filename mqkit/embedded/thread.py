"""The broker in a thread with an event loop of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mqkit.embedded.node import DEFAULT_USERS
from mqkit.embedded.server import EmbeddedServer, MessageInfo, QueueInfo

T = TypeVar("T")


class ServerThread:
    """`EmbeddedServer` with blocking methods, which any thread may call.

    :raises DataError: (on entry) the directory cannot be used
    :raises OSError: (on entry) the address cannot be listened on
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: Path | str | None = None,
        users: Mapping[str, str] = DEFAULT_USERS,
        fsync: bool = True,
    ) -> None:
        self._server = EmbeddedServer(host=host, port=port, data=data, users=users, fsync=fsync)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The broker URL of the first user, for the virtual host '/'."""
        return self._server.url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    def start(self) -> None:
        """Start the thread, and return once the broker listens."""
        loop = asyncio.new_event_loop()
        self._loop = loop
        self._thread = threading.Thread(
            target=loop.run_forever, name="mqkit embedded broker", daemon=True
        )
        self._thread.start()
        try:
            self._wait_for(self._server.start())
        except BaseException:
            self._end_thread()
            raise

    def stop(self, *, abruptly: bool = False) -> None:
        """End all connections, stop listening, end the thread; may be called twice."""
        if self._thread is None:
            return
        try:
            self._wait_for(self._server.stop(abruptly=abruptly))
        finally:
            self._end_thread()

    def advance(self, seconds: float) -> None:
        """Let time pass at once, for everything that waits in a queue.

        :raises ValueError: `seconds` is negative
        """
        self._wait_for(self._server.advance(seconds))

    def add_vhost(self, name: str) -> None:
        """Add a virtual host for the users that the broker began with."""
        self._call(lambda: self._server.add_vhost(name))

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it, and close its connections."""
        self._call(lambda: self._server.delete_vhost(name))

    def add_user(self, name: str, password: str) -> None:
        """Add a user without permissions, or give one another password."""
        self._call(lambda: self._server.add_user(name, password))

    def delete_user(self, name: str) -> None:
        """Let nobody log in by this name any more."""
        self._call(lambda: self._server.delete_user(name))

    def set_permissions(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Say what a user may do in a virtual host: three regular expressions on names.

        :raises KeyError: there is no such user or virtual host
        """
        self._call(lambda: self._server.set_permissions(user, vhost, configure, write, read))

    def close_connections(self, reason: str) -> int:
        """Close all connections with a reason; how many."""
        return self._call(lambda: self._server.close_connections(reason))

    def block(self, reason: str) -> None:
        """Take no more messages, as RabbitMQ does when memory or disk run out."""
        self._call(lambda: self._server.block(reason))

    def unblock(self) -> None:
        """Take messages again."""
        self._call(self._server.unblock)

    def queues(self, vhost: str = "/") -> list[QueueInfo]:
        """The queues of a virtual host, in the order of their declaration."""
        return self._call(lambda: self._server.queues(vhost))

    def messages(self, queue: str, vhost: str = "/") -> list[MessageInfo]:
        """The messages that wait in a queue; they stay there.

        :raises KeyError: there is no such queue
        """
        return self._call(lambda: self._server.messages(queue, vhost))

    def _call(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return self._wait_for(run())

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None or self._thread is None:
            work.close()
            raise RuntimeError("the embedded broker was not started, or has been stopped")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
