"""RabbitMQ's HTTP API, as far as tests need it often.

A command in a container starts several processes, which takes ten times the processor time of a
request, and a suite makes and deletes a virtual host for each of thousands of tests.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from urllib.parse import quote

PORT = 15672
"""The plugin's port, in images that have it (https://www.rabbitmq.com/docs/management)."""

TIMEOUT = 10.0
"""Seconds for one answer."""

_ALL = {"configure": ".*", "write": ".*", "read": ".*"}


class Management:
    """Asks a broker by its HTTP API, and tells whether it did what was asked.

    What it did not, because the plugin is not there or refuses it, is asked in another way, which
    says what is wrong.
    """

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._host, self._port = host, port
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def add_vhost(self, name: str, user: str) -> bool:
        """Make a virtual host in which a user may do everything."""
        vhost = quote(name, safe="")
        return self._done("PUT", f"/api/vhosts/{vhost}", {}) and self._done(
            "PUT", f"/api/permissions/{vhost}/{quote(user, safe='')}", _ALL
        )

    def delete_vhost(self, name: str) -> bool:
        """Delete a virtual host with all that is in it."""
        return self._done("DELETE", f"/api/vhosts/{quote(name, safe='')}", None)

    def _done(self, method: str, path: str, body: dict[str, str] | None) -> bool:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        with contextlib.closing(connection):
            try:
                sent = None if body is None else json.dumps(body)
                connection.request(method, path, body=sent, headers=self._headers)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return False
        return http.client.OK <= status < http.client.MULTIPLE_CHOICES
