"""Options that commands share, how they log, and how they find a service."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import logging
import sys
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
    ServiceNotFoundError,
)
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl, Settings

StoreOption = Annotated[
    str | None,
    typer.Option(
        help="The store: sqlite:///path or postgresql://user:password@host/database. "
        "Default: the environment's MQKIT_STORE, which other users cannot see.",
        show_default=False,
    ),
]

DriverOption = Annotated[
    str | None,
    typer.Option(
        help=f"The AMQP client: {' or '.join(drivers.NAMES)}. Default: {drivers.DEFAULT}.",
        show_default=False,
    ),
]

LogLevelOption = Annotated[str, typer.Option(help="debug, info, warning, error or critical.")]


@contextlib.contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Turn mqkit's errors into one line and an exit code; any other is a bug and stays as it is."""
    try:
        yield
    except ConfigurationError as error:
        typer.echo(f"mqkit: {error}", err=True)
        sys.exit(CALLED_WRONGLY)
    except MqkitError as error:
        typer.echo(f"mqkit: {error}", err=True)
        sys.exit(FAILED)


def seconds_option(*, over: float | None = None) -> Callable[[float | None], float | None]:
    """Make the `callback` of an option that takes seconds: a range lets NaN and infinity through.

    :param over: what it must be more than, where 0 makes no sense
    """

    def check(value: float | None) -> float | None:
        try:
            return value if value is None else checked.seconds(value, "it", over=over)
        except OptionError as error:
            raise typer.BadParameter(str(error)) from error

    return check


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


def load_service(spec: str) -> Service:
    """Import the service at `MODULE:SERVICE`; modules of the current directory are found too.

    What the module itself raises on import is passed on as it is.

    :raises ServiceNotFoundError: no such module, no such name in it, or not a service
    """
    module_name, colon, attribute = spec.partition(":")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise ServiceNotFoundError(
            f"{spec!r} is not MODULE:SERVICE; for example handlers.ledger:service"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ServiceNotFoundError(
            f"there is no module {error.name!r} (looked from {here} and the installed packages)"
        ) from error
    service = getattr(module, attribute, None)
    if isinstance(service, Service):
        return service
    names = [name for name, value in vars(module).items() if isinstance(value, Service)]
    if not hasattr(module, attribute):
        near = difflib.get_close_matches(attribute, names, n=1) or names
        raise ServiceNotFoundError(
            f"module {module_name!r} has no {attribute!r}"
            + (f"; did you mean {module_name}:{near[0]}?" if near else ", and no Service at all")
        )
    raise ServiceNotFoundError(
        f"{spec} is {type(service).__name__}, not a Service"
        + (f"; did you mean {module_name}:{names[0]}?" if names else "")
    )
