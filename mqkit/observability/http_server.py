"""Answers `/metrics`, `/healthz` and `/readyz` on one port, on the event loop of the service.

The least of HTTP/1.1 (RFC 9112) that scrapers and probes use: one GET or HEAD for each connection,
which is closed after the answer. A library for it would be one more dependency of every service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

from mqkit.errors import MqkitError
from mqkit.logging.error_reports import log_error

logger = logging.getLogger(__name__)

LONGEST_HEAD = 16 * 1024
"""Bytes of a request's line and headers."""

TIMEOUT = 5.0
"""Seconds in which a request must have come, and again for its answer to be taken."""

MOST = 64
"""Connections at a time; more are closed unanswered."""

TEXT = "text/plain; charset=utf-8"


class HttpServerError(MqkitError):
    """The address cannot be listened on; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Pages:
    """What a service says of itself. Each is called on the event loop, and returns at once."""

    metrics: Callable[[str], tuple[bytes, str]]
    """Returns the metrics and their content type, for what the `Accept` header says."""
    alive: Callable[[], tuple[str, ...]]
    """Returns what keeps its loops from turning."""
    ready: Callable[[], tuple[str, ...]]
    """Returns what keeps it from consuming."""

    def answer(self, path: str, accept: str) -> Answer:
        """Return what stands under a path."""
        match path:
            case "/metrics":
                return Answer(HTTPStatus.OK, *self.metrics(accept))
            case "/healthz":
                return _state("alive", self.alive())
            case "/readyz":
                return _state("ready", self.ready())
        return _failure(HTTPStatus.NOT_FOUND, "there are /metrics, /healthz and /readyz")


def _state(word: str, problems: tuple[str, ...]) -> Answer:
    if not problems:
        return Answer(HTTPStatus.OK, f"{word}\n".encode())
    lines = "".join(f"{line}\n" for line in (f"not {word}", *problems))
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, lines.encode("utf-8", "backslashreplace"))


def _failure(status: HTTPStatus, why: str) -> Answer:
    return Answer(status, f"{status.value} {status.phrase}: {why}\n".encode())


class HttpServer:
    """Serves the pages while it is entered; of peers that misbehave none holds up another."""

    def __init__(self, pages: Pages, host: str, port: int) -> None:
        """Listen to nothing yet.

        :param port: 0 takes a free one, which `port` tells once it is entered
        """
        self._pages = pages
        self._host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port, limit=LONGEST_HEAD
            )
        except (OSError, OverflowError, UnicodeError) as error:
            # asyncio's own words repeat the address.
            number = getattr(error, "errno", None)
            why = os.strerror(number) if number and number > 0 else error
            raise HttpServerError(
                f"cannot listen on {self.address} for metrics and health: {why}; does another "
                "process have it? --http names another port"
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        logger.info("metrics and health: http://%s/metrics, /healthz, /readyz", self.address)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None, "it is entered"
        self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await asyncio.sleep(0)  # in which the loop lets go of the sockets

    @property
    def address(self) -> str:
        """Where it listens, as a URL has it."""
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio makes one for each connection"
        if len(self._serving) >= MOST:
            writer.transport.abort()
            return
        self._serving.add(task)
        try:
            # A peer that is gone, or too slow, is told nothing, and is no matter of the service's.
            with contextlib.suppress(ConnectionError, TimeoutError):
                await self._answer_one(reader, writer)
        except asyncio.CancelledError:
            pass  # the service ends; asyncio would log the cancel as an error of this callback
        except Exception as error:  # noqa: BLE001 - no request may end the service
            log_error(logger, logging.ERROR, "a request for metrics or health failed", error=error)
        finally:
            self._serving.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(TIMEOUT):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                head = b""
            except asyncio.IncompleteReadError:
                return  # it has gone, or half of a request is all there is
        answer, with_body = self._answer(head)
        writer.write(_head(answer) + (answer.body if with_body else b""))
        async with asyncio.timeout(TIMEOUT):
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            # What it still sends is read: closed with that unread, the answer would be reset away.
            while await reader.read(LONGEST_HEAD):
                pass

    def _answer(self, head: bytes) -> tuple[Answer, bool]:
        """Return the answer to a request, and whether its body is sent."""
        if not head:
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return _failure(too_large, f"at most {LONGEST_HEAD} bytes"), True
        request = parsed(head)
        if request is None:
            return _failure(HTTPStatus.BAD_REQUEST, "this is no HTTP/1 request"), True
        method, path, headers = request
        if method not in {"GET", "HEAD"}:
            return _failure(HTTPStatus.METHOD_NOT_ALLOWED, "there are GET and HEAD"), True
        try:
            answer = self._pages.answer(path, headers.get("accept", ""))
        except Exception as error:  # noqa: BLE001 - whatever it is, who asks is told that it failed
            log_error(logger, logging.ERROR, "a page of metrics or health failed", error=error)
            answer = _failure(HTTPStatus.INTERNAL_SERVER_ERROR, "the service's log says why")
        return answer, method == "GET"


def parsed(head: bytes) -> tuple[str, str, Mapping[str, str]] | None:
    """Return method, path and headers of a request (RFC 9112, section 2); None if it is none."""
    line, *fields = head.decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, path, version
        return None
    method, target, _ = words
    headers = {}
    for each in fields:
        name, colon, value = each.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return method, target.partition("?")[0], headers


def _head(answer: Answer) -> bytes:
    status = answer.status
    allow = "allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {answer.content_type}\r\n"
        f"content-length: {len(answer.body)}\r\ncache-control: no-store\r\n{allow}"
        "connection: close\r\n\r\n"
    ).encode("latin-1")
