"""A PostgreSQL server in a container of its own, through testcontainers."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any, cast

from mqkit.testing.brokers.containers import EngineError, begin, last_cause, publish_port
from mqkit.testing.brokers.watchdog import Watchdog
from tests.freezing import freeze
from tests.postgres.server import (
    DATABASE,
    SCHEME,
    USER,
    PostgresControlError,
    PostgresServer,
    PostgresStartError,
    wait_until_ready,
)

DEFAULT_IMAGE = "postgres:17-alpine"

PORT = 5432

START_TIMEOUT = 90.0
"""Seconds from starting the container until its server answers."""

STOP_TIMEOUT = 60
"""Whole seconds for an orderly shutdown."""

LOG_LINES = 25
"""Lines of the log that an error shows."""


class ContainerPostgres(PostgresServer):
    """A container that publishes a port that stays the same when its server is restarted."""

    kind = "container"

    def __init__(self, image: str, *, fsync: bool = True) -> None:
        """Start a container and wait until its server answers.

        :raises PostgresStartError: it did not come up
        """
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - an extra

        password = secrets.token_hex(16)
        self.label = "container"
        self.version = "unknown"
        self._container = DockerContainer(image)
        self._container.with_env("POSTGRES_USER", USER)
        self._container.with_env("POSTGRES_PASSWORD", password)
        self._container.with_env("POSTGRES_DB", DATABASE)
        self._container.with_command(
            f"postgres -c max_connections=200 -c fsync={'on' if fsync else 'off'}"
        )
        host, port = publish_port(self._container, PORT)
        self.url = f"{SCHEME}://{USER}:{password}@{host}:{port}/{DATABASE}"
        self._watchdog: Watchdog | None = None
        try:
            self._begin(image)
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        if not self._is_running():
            self._control("start", lambda container: container.start())
            self._wait_until_ready()

    def kill(self) -> None:
        if self._is_running():
            # The container's first process is the server: with it, the kernel ends all others.
            self._control("kill", lambda container: _end(container, "SIGKILL"))

    def stop(self) -> None:
        if self._is_running():
            self.resume()
            self._control("stop", lambda container: _end(container, "SIGINT"))

    def pause(self) -> None:
        self._control("pause", freeze)

    def resume(self) -> None:
        if self._status() == "paused":
            self._control("resume", lambda container: container.unpause())

    def close(self) -> None:
        with contextlib.suppress(Exception):
            # What is gone already is no error, and the engine may be gone too.
            self._container.stop()
        if self._watchdog is not None:
            self._watchdog.dismiss()

    @property
    def _wrapped(self) -> Any:
        return cast("Any", self._container.get_wrapped_container())

    def _status(self) -> str:
        wrapped = self._wrapped
        wrapped.reload()
        return str(wrapped.status)

    def _is_running(self) -> bool:
        return self._status() in {"running", "paused"}

    def _begin(self, image: str) -> None:
        try:
            self._watchdog = begin(self._container)
        except EngineError as exc:
            raise PostgresStartError(f"cannot start a container of {image}: {exc}") from exc

    def _control(self, verb: str, action: Callable[[Any], object]) -> None:
        try:
            action(self._wrapped)
        except Exception as exc:
            raise PostgresControlError(f"cannot {verb} {self!r}: {last_cause(exc)}") from exc

    def _wait_until_ready(self) -> None:
        try:
            self.version = wait_until_ready(self.url, timeout=START_TIMEOUT, ended=self._ended)
        except PostgresStartError as exc:
            log: bytes = self._wrapped.logs(tail=LOG_LINES)
            raise PostgresStartError(
                f"{exc}\n--- the end of its log\n{log.decode(errors='replace').rstrip()}"
            ) from exc

    def _ended(self) -> str | None:
        return None if self._is_running() else f"the container is {self._status()}"


def _end(container: Any, number: str) -> None:
    container.kill(number)
    container.wait(timeout=STOP_TIMEOUT)
