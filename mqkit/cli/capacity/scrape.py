"""Reads what a running service tells Prometheus, over HTTP."""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.parse
import urllib.request

from mqkit.capacity.errors import CapacityError
from mqkit.errors import OptionError
from mqkit.logging.shown import shown
from mqkit.system.reasons import root_text

TIMEOUT = 10.0
"""Seconds that an answer may take."""

MAX_BYTES = 64 * 1024 * 1024
"""Of an answer; a service with a thousand queues tells less."""


def checked_address(address: str) -> str:
    """Check the address of a service's metrics, and return it.

    :raises OptionError: it is no address of HTTP
    """
    try:
        parts = urllib.parse.urlsplit(address)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or not address.isprintable() or " " in address:
        raise OptionError(
            "--metrics is the address at which a service tells its metrics, "
            f"http://host:port/metrics, not {shown(_without_password(address))}"
        )
    return address


def scrape(address: str) -> str:
    """Return what stands at an address that `checked_address` has checked.

    :raises CapacityError: nothing answers, or with an error
    """
    where = _without_password(address)
    # Straight there: a proxy is for what is outside, and a service's metrics are not.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(_request(address), timeout=TIMEOUT) as answer:
            body: bytes = answer.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer, too
        raise CapacityError(f"{where} answers with status {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CapacityError(f"{where} does not answer: {shown(root_text(error))}") from error
    return body.decode(errors="replace")


def _request(address: str) -> urllib.request.Request:
    """Make a request; a name and a password go in its header, which an address cannot carry."""
    parts = urllib.parse.urlsplit(address)
    headers = {"Accept": "text/plain"}
    userinfo, at, host = parts.netloc.rpartition("@")
    if at:
        secret = base64.b64encode(urllib.parse.unquote(userinfo).encode()).decode()
        headers["Authorization"] = f"Basic {secret}"
    bare = urllib.parse.urlunsplit(parts._replace(netloc=host))
    return urllib.request.Request(bare, headers=headers)  # noqa: S310 - http or https: checked


def _without_password(address: str) -> str:
    before, at, after = address.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at else address
