"""RabbitMQ's HTTP API, as tests ask it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mqkit.testing.brokers import probe
from mqkit.testing.brokers.management import Management


class Api(HTTPServer):
    """Answers each request with its status, and keeps what was asked."""

    status = 204

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str, Any]] = []


class Answer(BaseHTTPRequestHandler):
    """One answer of it."""

    server: Api

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, json.loads(body) if body else None))
        expected = base64.b64encode(b"guest:guest").decode()
        is_known = self.headers["Authorization"] == f"Basic {expected}"
        self.send_response(self.server.status if is_known else 401)
        self.end_headers()

    do_DELETE = do_PUT  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def api() -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def management_of(api: Api) -> Management:
    return Management("127.0.0.1", api.server_address[1], "guest", "guest")


def test_a_virtual_host_is_made_with_all_permissions_and_deleted(api: Api) -> None:
    """Whatever its name: a slash in it is no separator of the path."""
    management = management_of(api)
    assert management.add_vhost('a/b "ä', "guest")
    assert management.delete_vhost('a/b "ä')
    quoted = "a%2Fb%20%22%C3%A4"
    assert api.asked == [
        ("PUT", f"/api/vhosts/{quoted}", {}),
        (
            "PUT",
            f"/api/permissions/{quoted}/guest",
            {"configure": ".*", "write": ".*", "read": ".*"},
        ),
        ("DELETE", f"/api/vhosts/{quoted}", None),
    ]


def test_what_is_refused_is_not_done(api: Api) -> None:
    """And no permissions are asked for in a virtual host that was not made."""
    api.status = 404
    assert not management_of(api).add_vhost("v", "guest")
    assert not management_of(api).delete_vhost("v")
    assert len(api.asked) == 2


def test_without_the_plugin_nothing_is_done() -> None:
    """Nobody listens there: another way is found, and no error is in its way."""
    (port,) = probe.free_ports(1)
    assert not Management("127.0.0.1", port, "guest", "guest").delete_vhost("v")
