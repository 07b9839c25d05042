"""Options that commands share, how they log, and how they tell errors."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from mqkit import drivers
from mqkit.checks import checked
from mqkit.cli.exit_codes import CALLED_WRONGLY, FAILED
from mqkit.errors import (
    BrokerUrlError,
    ConfigurationError,
    MqkitError,
    OptionError,
)
from mqkit.logging.formatters import INDENT
from mqkit.logging.shown import shown
from mqkit.observability.metrics.buckets import Buckets
from mqkit.settings import BrokerUrl, Settings

StoreOption = Annotated[
    str | None,
    typer.Option(
        help="The store: sqlite:///path or postgresql://user:password@host/database. "
        "Default: the environment's MQKIT_STORE, which other users cannot see.",
        show_default=False,
    ),
]

UrlOption = Annotated[
    str | None,
    typer.Option(
        help="The broker: amqp[s]://user:password@host[,host]/vhost. "
        "Default: the environment's MQKIT_URL, which other users cannot see.",
        show_default=False,
    ),
]

ManagementOption = Annotated[
    str | None,
    typer.Option(
        help="The broker's management API, http[s]://user:password@host:15672. Default: the "
        "environment's MQKIT_MANAGEMENT; without either, less is seen.",
        show_default=False,
    ),
]

SvgOption = Annotated[
    Path | None, typer.Option(help="Draw it there, as SVG.", show_default=False, metavar="FILE")
]

DriverOption = Annotated[
    str | None,
    typer.Option(
        help=f"The AMQP client: {' or '.join(drivers.NAMES)}. Default: {drivers.DEFAULT}.",
        show_default=False,
    ),
]

LogLevelOption = Annotated[str, typer.Option(help="debug, info, warning, error or critical.")]


DEFAULT_HTTP_HOST = "127.0.0.1"
"""Loopback: the pages ask nobody who they are, and tell names of queues."""

HTTP = "--http"

HttpOption = Annotated[
    str | None,
    typer.Option(
        HTTP,
        metavar="[HOST:]PORT",
        help="Answer /metrics, /healthz and /readyz there, for all processes together; port 0 "
        f"takes a free one, which is logged. HOST is {DEFAULT_HTTP_HOST} if it is not given; a "
        "container needs 0.0.0.0. It takes the extra 'metrics'.",
        show_default=False,
    ),
]
BUCKETS = "--buckets"


@contextlib.contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn mqkit's errors into one line and an exit code; any other is a bug and stays as it is.

    Below the line stand the error's notes, such as the line of a service that it comes from.
    """
    try:
        yield
    except MqkitError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        typer.echo(f"mqkit: {error}\n{textwrap.indent(notes, INDENT)}".rstrip(), err=True)
        sys.exit(CALLED_WRONGLY if isinstance(error, ConfigurationError) else FAILED)
    except OSError as error:
        if error.errno not in _FULL or not _output_fails():
            raise
        typer.echo(f"mqkit: the output cannot be written: {error.strerror}", err=True)
        sys.exit(FAILED)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _output_fails() -> bool:
    """Tell whether standard output takes nothing: it is a file on a full disk, say."""
    try:
        sys.stdout.flush()  # which has kept what could not be written, unless it is unbuffered
        os.write(sys.stdout.fileno(), b"\n")
    except OSError:
        # Or the interpreter would try it once more on its way out, and say so.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def seconds_option(*, over: float | None = None) -> Callable[[float | None], float | None]:
    """Make the `callback` of an option that takes seconds: a range lets NaN and infinity through.

    :param over: what it must be more than, where 0 makes no sense
    """

    def check(value: float | None) -> float | None:
        try:
            return value if value is None else checked.seconds(value, "it", over=over)
        except OptionError as error:
            low = "0 or more" if over is None else f"more than {over:g}"
            raise typer.BadParameter(
                f"it is seconds, {low} and up to {checked.MAX_SECONDS:.0f}, not {value}"
            ) from error

    return check


def number_option(what: str, *, over: float) -> Callable[[float], float]:
    """Make the `callback` of an option that takes a number: a range lets NaN and infinity through.

    :param what: what it counts: 'messages a second'
    :param over: what it must be more than
    """

    def check(value: float) -> float:
        try:
            return checked.number(value, "it", what, over=over)
        except OptionError as error:
            raise typer.BadParameter(str(error)) from error

    return check


def name_and_value(text: str, option: str) -> tuple[str, str]:
    """Return name and value of `NAME=VALUE`.

    :raises OptionError: it is none
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise OptionError(f"{option} is NAME=VALUE, not {shown(text)}")
    return name, value


def log_level_number(name: str) -> int:
    """Return the number of a `--log-level`.

    :raises typer.BadParameter: it is none
    """
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise typer.BadParameter(f"{name!r} is not a log level", param_hint="--log-level")
    return level


def broker_url(option: str | None) -> BrokerUrl:
    """Return the broker's URL: `--url`, or else `MQKIT_URL`.

    :raises BrokerUrlError: neither is given, or it is malformed
    """
    if option is not None:
        return BrokerUrl.parse(option)
    setting = Settings().url
    if setting is None:
        raise BrokerUrlError(
            "no broker: give --url amqp://user:password@host/vhost, or set MQKIT_URL; `mqkit run` "
            "and `mqkit broker` have one of their own for trying things out: --embedded"
        )
    return BrokerUrl.parse(setting.get_secret_value())


def read_text(path: Path, option: str) -> str:
    """Read a text file that an option names.

    :raises OptionError: it cannot be read, or is no UTF-8
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{option} {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise OptionError(f"{option} {path} cannot be read: it is no UTF-8") from error


def management_url(option: str | None) -> str | None:
    """Return the URL of the management API: the option, or else `MQKIT_MANAGEMENT`, or None."""
    return option or os.environ.get("MQKIT_MANAGEMENT")


def write_text(path: Path, text: str) -> None:
    """Write a file that an option names.

    :raises OptionError: it cannot be written
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror or error}") from error


def store_option(option: str | None) -> str:
    """Return the store's URL: `--store`, or else `MQKIT_STORE`; the store parses it.

    :raises ConfigurationError: neither is given
    """
    if option is not None:
        return option
    setting = Settings().store
    if setting is None:
        raise ConfigurationError(
            "no store: give --store postgresql://user:password@host/database or "
            "--store sqlite:///path, or set MQKIT_STORE"
        )
    return setting.get_secret_value()


def http_address(option: str | None) -> tuple[str, int] | None:
    """Return host and port of `[HOST:]PORT`; None where the option is not given.

    :raises typer.BadParameter: it is none
    :raises MissingExtraError: there is no prometheus_client
    """
    if option is None:
        return None
    host, port = address(option, HTTP)
    import mqkit.observability.metrics.exposition  # noqa: F401, PLC0415 - an extra is missing now

    return host, port


def address(option: str, hint: str) -> tuple[str, int]:
    """Return host and port of `[HOST:]PORT`; without a host, it is this machine alone.

    :raises typer.BadParameter: it is none
    """
    host, _, port = option.rpartition(":")
    if host.startswith("[") and host.endswith("]"):  # an IPv6 address, as in a URL
        host = host[1:-1]
    elif ":" in host:
        host = ""
        port = ""
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004 - a port
        raise typer.BadParameter(
            f"{option!r} is not [HOST:]PORT, such as 9464, 0.0.0.0:9464 or [::]:9464",
            param_hint=hint,
        )
    return host or DEFAULT_HTTP_HOST, int(port)


def histogram_buckets(options: list[str]) -> dict[str, tuple[float, ...]]:
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
