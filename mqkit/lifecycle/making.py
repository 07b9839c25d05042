"""Checks the service that a runtime is given, and makes its connections."""

from __future__ import annotations

from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.clock import Clock
from mqkit.drivers.base import Driver
from mqkit.errors import ConfigurationError
from mqkit.logging.outages import OutageLog
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl


def checked_service(service: object) -> Service:
    """Return the service that was given, once it is one that can run.

    :raises ConfigurationError: it is none, it has no handlers, or its store would forget too soon
    """
    if not isinstance(service, Service):
        raise ConfigurationError(f"Runtime takes a Service, not {checked.shown(service)}")
    if not service.handlers:
        raise ConfigurationError(
            f"service {service.name!r} has no handlers: write one under "
            "@service.handler(Queue(...)), or import the module that has them"
        )
    if service.store is not None:
        service.store.check(service.handlers)
    return service


def connections(
    service: Service, url: BrokerUrl, driver: Driver, clock: Clock, *, declares: bool
) -> tuple[Connection, Connection]:
    """Make the connection that consumes and the one that publishes, whose outages are one.

    :param declares: whether anything is declared on them, and not only looked for
    :raises ConfigurationError: `declares` is no flag
    """
    checked.flag(declares, "Runtime(declare=...)")
    outages = OutageLog(clock=clock, reports=service.error_reports)

    def made(does: str) -> Connection:
        name = f"{service.name}.{does}"
        return Connection(url, name=name, driver=driver, outages=outages, declares=declares)

    return made("consume"), made("publish")
