"""Finds the brokers that a command line names, and starts or connects to them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

from mqkit.errors import ConfigurationError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import embedded
from mqkit.testing.brokers.containers import full_name, label_of
from mqkit.testing.brokers.finder import EMBEDDED, Broker, BrokerSpec, find_brokers, start
from tests.conformance.suite.env import Target


def specs(names: Sequence[str]) -> list[BrokerSpec]:
    """Read the names of brokers: `embedded`, `4.3` (a container), `URL`, or `LABEL=URL`.

    Without names, the RabbitMQ that is found.

    :raises mqkit.errors.ConfigurationError: a name is none of these
    :raises mqkit.testing.brokers.BrokerNotFoundError: nothing was named, and nothing is found
    """
    return [_spec(name) for name in names] or find_brokers(os.environ)


def _spec(name: str) -> BrokerSpec:
    if name == embedded.LABEL:
        return EMBEDDED
    label, equals, url = name.partition("=")
    if equals and "://" not in label:
        BrokerUrl.parse(url)
        return BrokerSpec("url", label, url)
    if "://" in name:
        BrokerUrl.parse(name)
        return BrokerSpec("url", "", name)
    if re.fullmatch(r"\d+\.\d+(\.\d+)?", name):
        return BrokerSpec("container", name, full_name(f"{name}-management"))
    if re.match(r"\d|rabbitmq:|.*/", name):
        return BrokerSpec("container", label_of(full_name(name)), full_name(name))
    raise ConfigurationError(
        f"--broker {name}: embedded, a version such as 4.3, an image, amqp://..., or LABEL=amqp://..."
    )


@contextlib.contextmanager
def opened(spec: BrokerSpec) -> Iterator[Target]:
    """Start a broker, or connect to it; what was started ends with the block."""
    with start(spec) as broker:
        yield target_of(broker, spec.label if spec.kind == "url" else "")


def target_of(broker: Broker, label: str = "") -> Target:
    """Make a target of a running broker; its label is that of its version unless one is given."""
    found = None if broker.kind == "embedded" else re.match(r"\d+\.\d+", broker.version)
    by_version = found[0] if found else broker.label
    return Target(
        by_version if label in ("", "url") else label,
        broker.url,
        broker.version,
        getattr(broker, "advance", None),
    )
