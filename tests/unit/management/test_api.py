"""The management API as it is asked, and what is said of answers that are none."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mqkit.errors import ConfigurationError, ManagementError
from mqkit.management import ManagementApi, api


@contextlib.contextmanager
def server(status: int, body: bytes = b"{}", **headers: str) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that answers everything so; its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://user:planted-secret@127.0.0.1:{found.server_port}", asked
        finally:
            found.shutdown()
            thread.join()


async def test_names_are_quoted() -> None:
    """A slash, a question mark and a space in a name stay one part of the path."""
    with server(200, b'{"name": "a"}') as (url, asked):
        assert await ManagementApi(url, "/").ask("queues", "a/b?c d", query="?x=1") == {"name": "a"}
    assert asked == ["/api/queues/%2F/a%2Fb%3Fc%20d?x=1"]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "refused the user name and password"),
        (403, b"", "may not ask"),
        (500, b"", "500"),
        (200, b"<html>", "Expecting value"),
        (302, b"", "302"),
        (200, b"[" * 100_000, "nested too deeply"),
        (200, b"1" * 5_000, "no management API: Exceeds the limit"),
        (200, b'{"a":', "Expecting value"),
        (200, b"\xff\xfe[", "no management API"),
    ],
)
async def test_an_answer_that_is_none_is_an_error(status: int, body: bytes, words: str) -> None:
    """It says what was wrong, and not the password."""
    with (
        server(status, body, Location="http://127.0.0.1:1/") as (url, _),
        pytest.raises(ManagementError, match=words) as error,
    ):
        await ManagementApi(url, "/").ask("queues")
    assert "planted-secret" not in str(error.value)


async def test_an_answer_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too long, and one of which a byte comes now and then."""
    with server(200, b" " * 1000) as (url, _):
        monkeypatch.setattr(api, "LARGEST_ANSWER", 999)
        with pytest.raises(ManagementError, match="an answer is longer than"):
            await ManagementApi(url, "/").ask("queues")
        monkeypatch.setattr(api, "LARGEST_ANSWER", 1000)
        monkeypatch.setattr(api, "WHOLE", -1.0)
        with pytest.raises(ManagementError, match="an answer takes longer than"):
            await ManagementApi(url, "/").ask("queues")


async def test_a_port_without_a_server_is_named_with_the_systems_word_alone() -> None:
    """Neither Python's name of the error nor its number is in it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ManagementError) as error:
        await ManagementApi(f"http://u:planted-secret@127.0.0.1:{port}", "/").ask("queues")
    said = f"http://127.0.0.1:{port} does not answer: {os.strerror(errno.ECONNREFUSED)}"
    assert str(error.value) == said


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent the password."""
    with server(200, b"[]") as (proxy, asked), server(200, b"[]") as (url, _):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await ManagementApi(url, "/").ask("queues") == []
        assert asked == []


async def test_a_redirect_is_not_followed() -> None:
    """The password would go to wherever it points."""
    with server(200) as (other, asked), server(302, Location=other) as (url, _):
        with pytest.raises(ManagementError):
            await ManagementApi(url, "/").ask("queues")
        assert asked == []


async def test_what_is_not_there_is_none() -> None:
    """A queue that is missing is no error."""
    with server(404) as (url, _):
        assert await ManagementApi(url, "/").ask("queues", "q") is None


@pytest.mark.parametrize(
    "url", ["amqp://user:planted-secret@host", "http://user:planted-secret\udcff@host:15672"]
)
def test_a_url_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    """There may be a password in it."""
    with pytest.raises(ConfigurationError) as error:
        ManagementApi(url, "/")
    assert "planted-secret" not in str(error.value)
    assert "planted-secret" not in repr(ManagementApi("http://u:planted-secret@h:1", "/"))
