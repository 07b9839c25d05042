"""Users of a broker: made, changed and deleted.

Where the broker is a RabbitMQ it is done by Erlang's words in the node, since each run of
rabbitmqctl takes half a second of processor time.
"""

from __future__ import annotations

from dataclasses import dataclass

from mqkit.testing.brokers.broker import Broker

BY = '<<"mqkit.tests">>'
"""Who did it, as RabbitMQ's log says."""


@dataclass(frozen=True)
class User:
    """A user of this name, which is not made yet. Names, passwords and patterns are ASCII."""

    broker: Broker
    name: str

    def add(self, password: str) -> None:
        """Make the user, with no permissions."""
        self._do("add_user", "rabbit_auth_backend_internal:add_user", password, by=True)

    def permit(self, configure: str, write: str, read: str) -> None:
        """Say on what it may do what in the virtual host `/`, by patterns of names."""
        patterns = (configure, write, read)
        if self.broker.kind == "embedded":
            self.broker.ctl("set_permissions", self.name, *patterns)
            return
        asked = ", ".join(f'<<"{each}">>' for each in (self.name, "/", *patterns))
        self.broker.evaluate(f"ok = rabbit_auth_backend_internal:set_permissions({asked}, {BY}).")

    def change_password(self, password: str) -> None:
        """Give the user another password; its connections stay."""
        self._do(
            "change_password", "rabbit_auth_backend_internal:change_password", password, by=True
        )

    def close_connections(self) -> None:
        """Close the user's connections, as an operator does."""
        self._do(
            "close_all_user_connections", "rabbit_networking:close_all_user_connections", "a test"
        )

    def delete(self) -> None:
        """Delete the user."""
        self._do("delete_user", "rabbit_auth_backend_internal:delete_user", by=True)

    def _do(self, command: str, function: str, *words: str, by: bool = False) -> None:
        if self.broker.kind == "embedded":
            self.broker.ctl(command, self.name, *words)
            return
        arguments = [f'<<"{each}">>' for each in (self.name, *words)] + [BY] * by
        self.broker.evaluate(f"ok = {function}({', '.join(arguments)}).")
