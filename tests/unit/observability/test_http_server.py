"""The pages on a socket, for scrapers that are well and peers that are not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from mqkit.observability import http_server
from mqkit.observability.http_server import (
    LONGEST_HEAD,
    MOST,
    HttpServer,
    HttpServerError,
    Pages,
    parsed,
)

PAGES = Pages(
    metrics=lambda accept: (f"up 1 {accept}".encode(), "text/plain; version=0.0.4"),
    alive=lambda: (),
    ready=lambda: ("queue ü: paused", "store: away"),
)


@contextlib.asynccontextmanager
async def served(pages: Pages = PAGES) -> AsyncIterator[HttpServer]:
    """A server on a free port."""
    async with HttpServer(pages, "127.0.0.1", 0) as server:
        yield server


async def said(server: HttpServer, words: bytes, *, eof: bool = False) -> bytes:
    """Say this, and return all of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(words)
        if eof:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, and wait until its socket is."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def request(path: str, method: str = "GET", headers: str = "") -> bytes:
    """One as a client writes it."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode("latin-1")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/metrics", "200 OK", b"up 1 text/x"),
        ("/metrics?name[]=a", "200 OK", b"up 1 text/x"),
        ("/healthz", "200 OK", b"alive\n"),
        (
            "/readyz",
            "503 Service Unavailable",
            "not ready\nqueue ü: paused\nstore: away\n".encode(),
        ),
        ("/", "404 Not Found", b"404 Not Found: there are /metrics, /healthz and /readyz\n"),
    ],
)
async def test_each_page_answers(path: str, status: str, body: bytes) -> None:
    """With its status, its length and nothing after it"""
    async with served() as server:
        head, _, found = (
            await said(server, request(path, headers="aCCept: text/x\r\n"))
        ).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert found == body
    assert f"content-length: {len(body)}".encode() in head


async def test_head_is_get_without_the_body() -> None:
    """Its length is told all the same"""
    async with served() as server:
        head, _, body = (await said(server, request("/healthz", "HEAD"))).partition(b"\r\n\r\n")
    assert b"content-length: 6" in head
    assert body == b""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (request("/metrics", "POST", "Content-Length: 5\r\n") + b"hello", b"405"),
        (b"\r\n\r\n", b"400"),
        (b"hello\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"AMQP\x00\x00\x09\x01" + b"\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\xff\xfe\r\n\r\n", b"400"),
        (request("/metrics", headers=": :\r\nno colon\r\n"), b"200"),
        (request("/" + "x" * LONGEST_HEAD), b"431"),
        (b"G" * (3 * LONGEST_HEAD), b"431"),
        (request("/\xff\xfe"), b"404"),
    ],
    ids=["post", "empty", "word", "1.0 line", "http 2", "amqp", "tls", "odd", "long", "flood", "x"],
)
async def test_a_bad_request_gets_an_answer_that_says_so(words: bytes, status: bytes) -> None:
    """And the next one is answered as ever"""
    async with served() as server:
        assert (await said(server, words)).startswith(b"HTTP/1.1 " + status)
        assert (await said(server, request("/healthz"))).endswith(b"alive\n")


async def test_a_peer_that_goes_before_it_has_asked_is_told_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Port scanners do so, and nobody wants to read of it"""
    async with served() as server:
        assert await said(server, b"GET /met", eof=True) == b""
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.transport.abort()
        await closed(writer)
        assert (await said(server, request("/healthz"))).endswith(b"alive\n")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_slow_peers_hold_up_nobody_and_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks too slowly, and one that does not take its answer, have so many seconds"""
    monkeypatch.setattr(http_server, "TIMEOUT", 0.3)
    large = Pages(metrics=lambda _: (b"x" * 50_000_000, "a"), alive=lambda: (), ready=lambda: ())
    async with served(large) as server:
        silent = asyncio.create_task(said(server, b"GET /metrics HTTP/1.1\r\n"))
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(request("/metrics"))  # and never reads
        assert (await said(server, request("/healthz"))).endswith(b"alive\n")
        assert await silent == b""
        async with asyncio.timeout(10):
            while server._serving:
                await asyncio.sleep(0.02)
        await closed(writer)


async def test_more_connections_than_it_takes_are_closed() -> None:
    """However many there are, those it has are answered, and later ones when there is room"""
    async with served() as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(MOST)]
        async with asyncio.timeout(10):
            while len(server._serving) < MOST:
                await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionError):
            assert await said(server, request("/healthz")) == b""
        held[0][1].write(request("/healthz"))
        assert (await held[0][0].read()).endswith(b"alive\n")
        await closed(held[0][1])
        async with asyncio.timeout(10):
            while len(server._serving) >= MOST:
                await asyncio.sleep(0.01)
        assert (await said(server, request("/healthz"))).endswith(b"alive\n")
        for _, writer in held:
            await closed(writer)


async def test_a_page_that_fails_says_so_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it raised is not told to who asks"""

    def fail(_: str) -> tuple[bytes, str]:
        raise ValueError("a secret")

    async with served(Pages(metrics=fail, alive=lambda: (), ready=lambda: ())) as server:
        answer = await said(server, request("/metrics"))
    assert answer.startswith(b"HTTP/1.1 500")
    assert b"secret" not in answer
    assert "a page of metrics or health failed: ValueError" in caplog.text


async def test_its_end_ends_all_connections() -> None:
    """The service does not wait for a peer that asks nothing"""
    async with served() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(10):
            while not server._serving:
                await asyncio.sleep(0.01)
    assert not server._serving
    await closed(writer)


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "no such host.invalid", "\udcff"])
async def test_an_address_that_cannot_be_had_is_an_error_that_names_it(host: str) -> None:
    """It is in use, not this machine's, or no address"""
    async with served() as other:
        with pytest.raises(HttpServerError, match=r"cannot listen on .*--http names another"):
            async with HttpServer(PAGES, host, other.port):
                pass


def test_the_path_and_the_headers_are_read() -> None:
    """Names of headers in any case, values without the space around them"""
    assert parsed(b"GET /a?b=/c HTTP/1.0\r\nACCEPT:  x \r\n\r\n") == ("GET", "/a", {"accept": "x"})
