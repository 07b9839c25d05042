"""Finds a broker to run against, and starts it: for the tests and for the demo alike.

    with start(find_brokers(os.environ)[0]) as broker:
        connect(broker.url)

The order is the one that needs least: a broker that was named, containers, the binary on this
machine. What was started is ended on leaving, whatever happens.
"""

from __future__ import annotations

import os
import shlex
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mqkit.errors import BrokerError, ConfigurationError
from mqkit.settings import BrokerUrl
from mqkit.testing.brokers import containers, embedded, nodes
from mqkit.testing.brokers.broker import (
    Broker,
    BrokerControlError,
    BrokerStartError,
    Kind,
    UrlBroker,
)

__all__ = [
    "EMBEDDED",
    "Broker",
    "BrokerControlError",
    "BrokerNotFoundError",
    "BrokerSpec",
    "BrokerStartError",
    "find_brokers",
    "start",
]


class BrokerNotFoundError(BrokerError):
    """No RabbitMQ is to be had; the message says how to provide one, for each way."""

    has_lines = True


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """A broker that can be had, not started yet.

    `target` is its URL, its image, its server script, or empty for the embedded one. `label` is
    short enough for a test's id.
    """

    kind: Kind
    label: str
    target: str = field(repr=False)
    ctl: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "url":
            return f"the broker at {BrokerUrl.parse(self.target)}"
        if self.kind == "container":
            return f"a container of {self.target}"
        if self.kind == "embedded":
            return "mqkit's embedded broker"
        return f"a private node of {self.target}"


EMBEDDED = BrokerSpec("embedded", embedded.LABEL, "")
"""Always to be had; it is taken where it is asked for, and never in the place of a RabbitMQ."""


def find_brokers(env: Mapping[str, str]) -> list[BrokerSpec]:
    """Find the brokers to test on: all of the first way that has any.

    1. `MQKIT_TEST_URL`: a broker that runs already; `MQKIT_TEST_CTL` is the command that runs
       rabbitmqctl for it.
    2. Containers, where a Docker engine answers: of the images in `MQKIT_TEST_IMAGES` (names or
       tags, separated by commas), or else of RabbitMQ 4.3 and 4.0, whichever can be had.
    3. A private node of the `rabbitmq-server` on this machine.

    `MQKIT_TEST_BROKER` is `url`, `container` or `node` to look for that kind only, or `embedded`
    for mqkit's own broker, which is never found otherwise.

    :raises BrokerNotFoundError: there is none
    :raises mqkit.errors.ConfigurationError: one of the variables is malformed
    """
    wanted = env.get("MQKIT_TEST_BROKER", "")
    if wanted and wanted not in typing.get_args(Kind):
        raise ConfigurationError(
            f"MQKIT_TEST_BROKER={wanted!r}: one of {', '.join(typing.get_args(Kind))}"
        )
    if wanted == EMBEDDED.kind:
        return [EMBEDDED]
    ways: dict[str, Callable[[Mapping[str, str]], list[BrokerSpec] | str]] = {
        "url": _named,
        "container": _containers,
        "node": _node,
    }
    problems = []
    for kind, way in ways.items():
        if wanted in ("", kind):
            found = way(env)
            if not isinstance(found, str):
                return found
            problems.append(f"  - {found}")
    raise BrokerNotFoundError(
        "no RabbitMQ to run against; "
        + ("any one of these gives one:\n" if len(problems) > 1 else f"{wanted} was asked for:\n")
        + "\n".join(problems)
    )


def start(spec: BrokerSpec) -> Broker:
    """Start a broker, or connect to the one that runs, and wait until it speaks AMQP.

    Use it in a `with` statement: what was started ends with it.

    :raises BrokerStartError: it did not come up; the message holds the end of its log
    :raises mqkit.errors.ConnectError: the broker of a URL does not answer
    """
    if spec.kind == "url":
        return UrlBroker(spec.target, spec.ctl)
    if spec.kind == "embedded":
        # Many tests share it, and none may kill it: nothing has to outlive it.
        return embedded.EmbeddedBroker(durable=False)
    if spec.kind == "container":
        return containers.ContainerBroker(spec.target)
    return nodes.NodeBroker(Path(spec.target), os.environ)


def _named(env: Mapping[str, str]) -> list[BrokerSpec] | str:
    url = env.get("MQKIT_TEST_URL", "")
    if not url:
        return "a broker that runs already: set MQKIT_TEST_URL=amqp://user:password@host/"
    BrokerUrl.parse(url)
    try:
        ctl = tuple(shlex.split(env.get("MQKIT_TEST_CTL", "")))
    except ValueError as exc:
        raise ConfigurationError(f"MQKIT_TEST_CTL is not a command: {exc}") from exc
    return [BrokerSpec("url", "url", url, ctl)]


def _containers(env: Mapping[str, str]) -> list[BrokerSpec] | str:
    named = [item.strip() for item in env.get("MQKIT_TEST_IMAGES", "").split(",") if item.strip()]
    try:
        engine = containers.Engine()
    except containers.EngineError as exc:
        return f"containers: start a Docker engine; {exc}"
    try:
        # Images that were asked for by name are not left out in silence.
        images = [containers.full_name(item) for item in named] or containers.available(
            engine, containers.DEFAULT_IMAGES
        )
    finally:
        engine.close()
    if not images:
        return (
            "containers: a Docker engine answers, but it has none of "
            f"{', '.join(containers.DEFAULT_IMAGES)} and cannot pull them; "
            "load one, or name another in MQKIT_TEST_IMAGES"
        )
    return [BrokerSpec("container", containers.label_of(image), image) for image in images]


def _node(env: Mapping[str, str]) -> list[BrokerSpec] | str:
    server = nodes.find_server(env.get("PATH", ""), nodes.KNOWN_PLACES)
    if server is None:
        places = ", ".join(str(place) for place in nodes.KNOWN_PLACES)
        return (
            f"a private node: no rabbitmq-server on the PATH nor in {places}; install it "
            "(apt-get install rabbitmq-server, dnf install rabbitmq-server, brew install rabbitmq)"
        )
    return [BrokerSpec("node", nodes.label_of(server), str(server))]
