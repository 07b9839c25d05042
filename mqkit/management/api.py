"""Asks the management API of a broker, over HTTP in a thread, and says what was wrong."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit

from mqkit.errors import ConfigurationError, ManagementError
from mqkit.logging.shown import shown
from mqkit.system.reasons import root_text

TIMEOUT = 5.0
"""Seconds in which an answer begins, and goes on."""

WHOLE = 30.0
"""Seconds for all of one: a busy RabbitMQ takes some for thousands of queues."""

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of one: 100,000 bindings are 25 MB."""

AT_ONCE = 256 * 1024
"""Bytes that are read at a time."""

_NO_URL = "the URL of the management API is http[s]://user:password@host:15672"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the password would go along to wherever it points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no request: the redirect is an error like others."""


class ManagementApi:
    """Reads the management API of a broker, `http[s]://user:password@host:15672`.

    :raises ConfigurationError: it is no such URL
    """

    def __init__(self, url: str, vhost: str) -> None:
        """Ask nothing yet.

        :param vhost: the virtual host that all questions are about
        """
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
            user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
            login = f"{user}:{password}".encode()
        except ValueError as error:
            raise ConfigurationError(_NO_URL) from error
        if not host or scheme not in ("http", "https"):
            raise ConfigurationError(_NO_URL)
        where = f"[{host}]" if ":" in host else host
        self.vhost = vhost
        self.name = f"{scheme}://{where}" + (f":{port}" if port else "")
        """Without the password."""
        self._authorization = base64.b64encode(login).decode()
        self._base = f"{self.name}{parts.path.rstrip('/')}/api"
        # Straight there: a proxy of the environment is for what is outside, and would be sent the
        # password.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    def __repr__(self) -> str:
        return f"ManagementApi({self.name!r})"

    async def ask(self, kind: str, *path: str, query: str = "") -> Any:
        """Ask for what the virtual host has of a kind; None where there is no such thing.

        :param kind: 'queues', 'exchanges', 'consumers', ...
        :param path: below the virtual host, such as a queue's name; it is quoted here
        :raises ManagementError: the API cannot be asked, refuses, or answers no JSON
        """
        return await asyncio.to_thread(self.get, kind, *path, query=query)

    def get(self, kind: str, *path: str, query: str = "") -> Any:
        """Ask as `ask` does, and block this thread meanwhile.

        :raises ManagementError: as `ask`
        """
        parts = (quote(each, safe="") for each in (self.vhost, *path))
        return self.get_path("/".join((kind, *parts)) + query)

    def get_path(self, path: str) -> Any:
        """Ask for a path below `/api/`, as it is; None where there is nothing.

        :raises ManagementError: as `ask`
        """
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            f"{self._base}/{path}", headers={"Authorization": f"Basic {self._authorization}"}
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.loads(self._whole(answer))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.NOT_FOUND:
                return None
            self._refused(error)
        except OSError as error:
            raise ManagementError(f"{self.name} does not answer: {root_text(error)}") from error
        except (ValueError, http.client.HTTPException) as error:
            raise ManagementError(f"{self.name} is no management API: {shown(error)}") from error
        except RecursionError as error:
            why = "its answer is nested too deeply"
            raise ManagementError(f"{self.name} is no management API: {why}") from error

    def _whole(self, answer: http.client.HTTPResponse) -> bytes:
        """Read an answer, which may come slowly or without an end."""
        end = time.monotonic() + WHOLE
        read = bytearray()
        while part := answer.read1(AT_ONCE):
            read += part
            if len(read) > LARGEST_ANSWER:
                most = f"{LARGEST_ANSWER // 1024 // 1024} MiB"
                raise ManagementError(f"{self.name}: an answer is longer than {most}")
            if time.monotonic() > end:
                raise ManagementError(f"{self.name}: an answer takes longer than {WHOLE:g} s")
        return bytes(read)

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        raise ManagementError(f"{self.name}: {error}{_WHY.get(error.code, '')}") from error


_WHY = {
    401: "; it refused the user name and password of its URL, or that user has not the tag "
    "`management`",
    403: "; its user may not ask for that",
}
"""What more there is to say of an HTTP status."""
