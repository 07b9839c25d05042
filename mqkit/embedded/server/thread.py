"""The broker in a thread with an event loop of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent import futures
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mqkit.embedded.engine.node import DEFAULT_USERS
from mqkit.embedded.server.server import ConnectionInfo, EmbeddedServer, MessageInfo, QueueInfo

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
        memory_limit: int | None = None,
    ) -> None:
        self._server = EmbeddedServer(
            host=host,
            port=port,
            data=data,
            users=users,
            fsync=fsync,
            memory_limit=memory_limit,
        )
        self._lifecycle = threading.Lock()
        """Of `start` and `stop`, which take their time."""
        self._submitting = threading.Lock()
        """Held while something is handed to the loop, so that this does not come after its end."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: futures.Future[bool] = futures.Future()
        """Tells the thread to end, and whether abruptly."""
        self._ended: futures.Future[None] = futures.Future()
        """What the thread ended with."""

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
        """Start the thread, and return once the broker listens.

        :raises RuntimeError: it runs already
        """
        with self._lifecycle:
            if self._thread is not None:
                raise RuntimeError("the embedded broker runs already")
            started: futures.Future[asyncio.AbstractEventLoop] = futures.Future()
            self._stopping, self._ended = futures.Future(), futures.Future()
            thread = threading.Thread(
                target=self._main, args=(started,), name="mqkit embedded broker", daemon=True
            )
            thread.start()
            try:
                self._loop = started.result()
            except BaseException:
                # Also where the wait itself was interrupted.
                self._stopping.set_result(True)
                thread.join()
                raise
            self._thread = thread

    def stop(self, *, abruptly: bool = False) -> None:
        """End all connections, stop listening, end the thread; may be called twice.

        Other threads' calls that are under way end with RuntimeError, if not in time.
        """
        with self._lifecycle:
            if self._thread is None:
                return
            with self._submitting:
                self._loop = None
            self._stopping.set_result(abruptly)
            self._thread.join()
            self._thread = None
            self._ended.result()

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock forward at once, for everything that waits in a queue.

        :raises ValueError: `seconds` is negative, or no time
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
        """Set what a user may do in a virtual host: three regular expressions on names.

        :raises KeyError: there is no such user or virtual host
        """
        self._call(lambda: self._server.set_permissions(user, vhost, configure, write, read))

    def close_connections(self, reason: str) -> int:
        """Close all connections with a reason; returns how many."""
        return self._call(lambda: self._server.close_connections(reason))

    def block(self, reason: str) -> None:
        """Block publishers, as RabbitMQ does when memory runs out."""
        self._call(lambda: self._server.block(reason))

    def unblock(self) -> None:
        """Let publishers go on, unless their messages take too much memory."""
        self._call(self._server.unblock)

    def connections(self) -> list[ConnectionInfo]:
        """Return the connections that are open."""
        return self._call(self._server.connections)

    def queues(self, vhost: str = "/") -> list[QueueInfo]:
        """Return the queues of a virtual host, in the order of their declaration."""
        return self._call(lambda: self._server.queues(vhost))

    def messages(self, queue: str, vhost: str = "/") -> list[MessageInfo]:
        """Return the messages that wait in a queue; they stay there.

        :raises KeyError: there is no such queue
        """
        return self._call(lambda: self._server.messages(queue, vhost))

    def _call(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return self._wait_for(run())

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        with self._submitting:
            if self._loop is None:
                work.close()
                raise RuntimeError("the embedded broker was not started, or has been stopped")
            answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return answer.result()
        except futures.CancelledError:
            raise RuntimeError("the embedded broker has been stopped") from None

    def _main(self, started: futures.Future[asyncio.AbstractEventLoop]) -> None:
        running = self._run(started)
        try:
            asyncio.run(running)
        except BaseException as error:  # noqa: BLE001 - it is raised where `stop` is called
            self._ended.set_exception(error)
            if not started.done():  # not even an event loop could be made
                running.close()
                started.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _run(self, started: futures.Future[asyncio.AbstractEventLoop]) -> None:
        """Run the broker from its start to its stop; the work of the thread."""
        try:
            await self._server.start()
        except BaseException as error:  # noqa: BLE001 - it is raised where `start` was called
            started.set_exception(error)
            return
        started.set_result(asyncio.get_running_loop())
        abruptly = await asyncio.wrap_future(self._stopping)
        await self._server.stop(abruptly=abruptly)
