"""Chooses the client library that a service runs on: the drivers, by name.

The names are here; a client library is imported when its driver is asked for.
"""

from __future__ import annotations

from typing import Any, Final

from mqkit.checks.checked import shown
from mqkit.drivers.base import Driver
from mqkit.errors import ConfigurationError
from mqkit.settings import BrokerUrl

NAMES: Final = ("pika", "aio-pika")
"""What `named` knows."""

DEFAULT = "pika"
"""The driver where none is asked for; it runs on whatever event loop has transports."""


def named(name: str | None = None) -> Driver:
    """Return the driver of this name, or the default one.

    :raises ConfigurationError: there is none
    """
    match name or DEFAULT:
        case "pika":
            from mqkit.drivers.pika.driver import PikaDriver  # noqa: PLC0415 - only where it is used

            return PikaDriver()
        case "aio-pika":
            from mqkit.drivers.aio_pika.driver import AioPikaDriver  # noqa: PLC0415 - as above

            return AioPikaDriver()
    raise ConfigurationError(f"there is no driver {name!r}; there are {' and '.join(NAMES)}")


def given(driver: Driver | str | None, what: str) -> Driver:
    """Return the driver that an option was given, as itself or by its name; None is the default.

    :param what: whose option it is
    :raises ConfigurationError: it is no driver
    """
    if driver is None or isinstance(driver, str):
        return named(driver)
    if not callable(getattr(driver, "connect", None)):
        raise ConfigurationError(
            f"{what}: a driver is {' or '.join(map(repr, NAMES))}, or what mqkit.drivers.named() "
            f"returns, not {shown(driver)}"
        )
    return driver


def of_application(connection: Any) -> tuple[BrokerUrl, Driver]:
    """Return the driver for the application's own connection, and the URL to call it with.

    :raises ConfigurationError: it is neither a plain aio-pika connection nor a function
    """
    from mqkit.drivers.aio_pika import borrowed  # noqa: PLC0415 - only where it is used

    return borrowed.APPLICATION, borrowed.of_application(connection)


def chosen(
    service: str, connection: Any, url: BrokerUrl | None, driver: Driver | str | None
) -> tuple[BrokerUrl, Driver]:
    """Choose the URL and the driver of a service, from what it and the runtime were given.

    :param connection: what `Service(connection=...)` was given
    :raises ConfigurationError: there is no broker, or two of them, or what is no driver
    """
    if connection is None:
        if isinstance(url, str):  # and not shown: it may have a password
            raise ConfigurationError(
                f"service {service!r}: the broker's URL is text; give BrokerUrl.parse(url)"
            )
        if not isinstance(url, BrokerUrl):
            raise ConfigurationError(
                f"service {service!r} has no broker: give a BrokerUrl, or Service(connection=...)"
            )
        return url, given(driver, f"service {service!r}")
    if url is not None or driver is not None:
        raise ConfigurationError(
            f"service {service!r} has a connection of its own: give no URL and no driver"
        )
    return of_application(connection)
