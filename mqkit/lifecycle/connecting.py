"""Makes the two connections of a service, which it opens when it starts."""

from __future__ import annotations

from mqkit import drivers
from mqkit.broker.connection import Connection
from mqkit.checks import checked
from mqkit.clock import Clock
from mqkit.drivers.base import Driver
from mqkit.logging.outages import OutageLog
from mqkit.registration.service import Service
from mqkit.settings import BrokerUrl


def connections_of(
    service: Service,
    url: BrokerUrl | None,
    driver: Driver | str | None,
    *,
    clock: Clock,
    declare: bool,
) -> tuple[BrokerUrl, Connection, Connection]:
    """Return the broker's URL, the connection that consumes, and the one that publishes.

    An outage of both is told of once.

    :raises ConfigurationError: there is no broker, or two of them, or no such driver
    """
    checked.flag(declare, "Runtime(declare=...)")
    to, chosen = drivers.chosen(service.name, service.connection, url, driver)
    outages = OutageLog(clock=clock, reports=service.error_reports)
    consuming, publishing = (
        Connection(
            to, name=f"{service.name}.{does}", driver=chosen, outages=outages, declares=declare
        )
        for does in ("consume", "publish")
    )
    return to, consuming, publishing
