"""What the engine tells a durable store: `sqlite.Store` writes it down, `Forgetful` drops it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mqkit.embedded.engine.message import Entry
from mqkit.embedded.engine.queue import Queue
from mqkit.embedded.engine.routing.bindings import Destination
from mqkit.embedded.engine.routing.exchanges import Exchange


class Journal(Protocol):
    """Takes changes down at once and makes them durable at `commit`; confirms wait for that."""

    def put_vhost(self, vhost: str) -> None: ...

    def drop_vhost(self, vhost: str) -> None: ...

    def put_exchange(self, vhost: str, exchange: Exchange) -> None: ...

    def drop_exchange(self, vhost: str, exchange: str) -> None: ...

    def put_queue(self, vhost: str, queue: Queue) -> None: ...

    def drop_queue(self, vhost: str, queue: str) -> None: ...

    def put_binding(
        self, vhost: str, source: str, to: Destination, routing_key: str, arguments: dict[str, Any]
    ) -> None: ...

    def drop_binding(
        self,
        vhost: str,
        source: str,
        to: Destination,
        routing_key: str,
        arguments: Mapping[str, Any],
    ) -> None: ...

    def drop_bindings_to(self, vhost: str, source: str, to: Destination) -> None: ...

    def put_entry(self, vhost: str, queue: str, entry: Entry) -> None: ...

    def update_entry(self, vhost: str, queue: str, entry: Entry) -> None: ...

    def drop_entry(self, vhost: str, queue: str, entry: Entry) -> None: ...

    def commit(self) -> None:
        """Make the changes durable.

        :raises DataError: they could not be written
        """
        ...

    def close(self) -> None: ...


class Forgetful(Journal):
    """Keeps nothing: the broker is in memory."""

    def put_vhost(self, vhost: str) -> None:
        pass

    def drop_vhost(self, vhost: str) -> None:
        pass

    def put_exchange(self, vhost: str, exchange: Exchange) -> None:
        pass

    def drop_exchange(self, vhost: str, exchange: str) -> None:
        pass

    def put_queue(self, vhost: str, queue: Queue) -> None:
        pass

    def drop_queue(self, vhost: str, queue: str) -> None:
        pass

    def put_binding(
        self, vhost: str, source: str, to: Destination, routing_key: str, arguments: dict[str, Any]
    ) -> None:
        pass

    def drop_binding(
        self,
        vhost: str,
        source: str,
        to: Destination,
        routing_key: str,
        arguments: Mapping[str, Any],
    ) -> None:
        pass

    def drop_bindings_to(self, vhost: str, source: str, to: Destination) -> None:
        pass

    def put_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        pass

    def update_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        pass

    def drop_entry(self, vhost: str, queue: str, entry: Entry) -> None:
        pass

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass
