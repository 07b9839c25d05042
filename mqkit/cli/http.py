"""What `mqkit run --http` answers, in one process, and what its options take."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import typer

from mqkit.errors import OptionError
from mqkit.observability.health import problems_of
from mqkit.observability.http_server import HttpServer, Pages
from mqkit.observability.metrics.buckets import Buckets
from mqkit.observability.metrics.metrics import Metrics

DEFAULT_HOST = "127.0.0.1"
"""Loopback: the pages ask nobody who they are, and tell names of queues."""

HTTP = "--http"
BUCKETS = "--buckets"


def address(option: str | None) -> tuple[str, int] | None:
    """Return host and port of `[HOST:]PORT`; None where the option is not given.

    :raises typer.BadParameter: it is none
    :raises MissingExtraError: there is no prometheus_client
    """
    if option is None:
        return None
    host, _, port = option.rpartition(":")
    if host.startswith("[") and host.endswith("]"):  # an IPv6 address, as in a URL
        host = host[1:-1]
    elif ":" in host:
        host = ""
        port = ""
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004 - a port
        raise typer.BadParameter(
            f"{option!r} is not [HOST:]PORT, such as 9464, 0.0.0.0:9464 or [::]:9464",
            param_hint=HTTP,
        )
    from mqkit.observability.metrics import exposition  # noqa: F401, PLC0415 - an extra is missing now

    return host or DEFAULT_HOST, int(port)


def buckets(options: list[str]) -> dict[str, tuple[float, ...]]:
    """Return the buckets of `NAME=SECONDS,SECONDS,...`, by name.

    :raises typer.BadParameter: one is none, or `Buckets` refuses it
    """
    found: dict[str, tuple[float, ...]] = {}
    for option in options:
        name, _, bounds = option.partition("=")
        try:
            found[name.strip()] = tuple(float(each) for each in bounds.split(","))
            Buckets(**found)
        except (ValueError, TypeError) as error:
            why = f": {error}" if isinstance(error, OptionError) else ""
            raise typer.BadParameter(
                f"{option!r} is not handler=, queue= or confirm= with rising seconds, such as "
                f"handler=0.01,0.1,1{why}",
                param_hint=BUCKETS,
            ) from error
    return found


@contextlib.asynccontextmanager
async def answering(listen: tuple[str, int] | None, metrics: Metrics | None) -> AsyncIterator[None]:
    """Answer for the service of this process during the block; nothing where there is no address.

    :raises HttpServerError: it cannot be listened on
    """
    if listen is None or metrics is None:
        yield
        return
    pages = Pages(
        metrics=metrics.text,
        alive=lambda: (),  # who answers turns
        ready=lambda: problems_of(metrics.reading),
    )
    async with HttpServer(pages, *listen):
        yield
