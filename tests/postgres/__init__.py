"""Finds a PostgreSQL to run against, and starts it.

    with start(find_postgres(os.environ)) as server:
        engine = create_async_engine(server.create_database("orders"))

The order is: a server that was named, the binaries on this machine, a container. What was started
is ended on leaving, whatever happens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mqkit.testing.brokers import containers
from tests.postgres import node
from tests.postgres.container import DEFAULT_IMAGE, ContainerPostgres
from tests.postgres.server import (
    Kind,
    PostgresControlError,
    PostgresError,
    PostgresNotFoundError,
    PostgresServer,
    PostgresStartError,
    UrlPostgres,
    parse_url,
)

__all__ = [
    "PostgresControlError",
    "PostgresError",
    "PostgresNotFoundError",
    "PostgresServer",
    "PostgresSpec",
    "PostgresStartError",
    "find_postgres",
    "start",
]


@dataclass(frozen=True, slots=True)
class PostgresSpec:
    """A server that can be had, not started yet: `target` is its URL, its programs, its image."""

    kind: Kind
    target: str = field(repr=False)

    def __str__(self) -> str:
        if self.kind == "url":
            return f"the server at {parse_url(self.target).hostname}"
        if self.kind == "container":
            return f"a container of {self.target}"
        return f"a private server of {self.target}"


def find_postgres(env: Mapping[str, str]) -> PostgresSpec:
    """Find the PostgreSQL to test on.

    1. `MQKIT_TEST_POSTGRES`: the URL of a server that runs already, and of a user who may create
       databases on it.
    2. A private server of the programs on the PATH, or else of the newest in the known places.
    3. A container of the image in `MQKIT_TEST_POSTGRES_IMAGE`, or else of `DEFAULT_IMAGE`.

    :raises PostgresNotFoundError: there is none
    :raises mqkit.errors.ConfigurationError: the URL is malformed
    """
    url = env.get("MQKIT_TEST_POSTGRES", "")
    if url:
        parse_url(url)
        return PostgresSpec("url", url)
    binaries = node.find_binaries(env.get("PATH", os.defpath), node.KNOWN_PLACES)
    if binaries is not None:
        return PostgresSpec("node", str(binaries))
    image = env.get("MQKIT_TEST_POSTGRES_IMAGE", "") or DEFAULT_IMAGE
    problem = _problem_of(image)
    if problem is None:
        return PostgresSpec("container", image)
    raise PostgresNotFoundError(
        "no PostgreSQL to run against; any one of these gives one:\n"
        "  - a server that runs already: set "
        "MQKIT_TEST_POSTGRES=postgresql://user:password@host/postgres\n"
        "  - the server's programs (initdb, postgres): run deploy/install-postgres.sh\n"
        f"  - containers: {problem}"
    )


def start(spec: PostgresSpec, *, fsync: bool = True) -> PostgresServer:
    """Start a server, or connect to the one that runs, and wait until it answers.

    Use it in a `with` statement: what was started ends with it.

    :param fsync: False is faster; a crash of the machine, not of the server, then loses commits.
        A server of a URL stays as it is
    :raises PostgresStartError: it did not come up; the message holds the end of its log
    """
    if spec.kind == "url":
        return UrlPostgres(spec.target)
    if spec.kind == "container":
        return ContainerPostgres(spec.target, fsync=fsync)
    return node.NodePostgres(Path(spec.target), os.environ, fsync=fsync)


def _problem_of(image: str) -> str | None:
    try:
        engine = containers.Engine()
    except containers.EngineError as exc:
        return f"start a Docker engine; {exc}"
    try:
        if containers.available(engine, [image]):
            return None
    finally:
        engine.close()
    return (
        f"a Docker engine answers, but it has no {image} and cannot pull it; "
        "load it, or name another in MQKIT_TEST_POSTGRES_IMAGE"
    )
