"""A virtual host of a real broker: what a schedule asks of it, and does to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from mqkit import BrokerUrl, drivers
from mqkit.drivers.base import DriverChannel, DriverConnection
from mqkit.errors import ChannelClosedError

TIMEOUT = 60.0
"""Seconds for a request to the management API of a broker that others use, too."""


@dataclass
class Message:
    """A message that was taken out of a queue; as the embedded broker shows one."""

    body: bytes
    properties: dict[str, Any]


@dataclass
class Queue:
    """A queue, and what was in it in the end."""

    name: str
    messages: list[Message] = field(default_factory=list)


class VirtualHost:
    """A virtual host of its own; an asynchronous context manager."""

    def __init__(self, url: str, management: str, name: str) -> None:
        self.name = name
        self.url = urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))
        parts = urlsplit(management)
        self._http = httpx.AsyncClient(
            base_url=f"{parts.scheme}://{parts.hostname}:{parts.port}/api",
            auth=(parts.username or "guest", parts.password or "guest"),
            timeout=TIMEOUT,
        )
        self._connection: DriverConnection
        self._channel: DriverChannel | None = None
        self.content: dict[str, Queue] = {}

    async def __aenter__(self) -> Self:
        (await self._ask("PUT", f"/vhosts/{self.name}", json={})).raise_for_status()
        await self._connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._connection.close()
        finally:
            await self._ask("DELETE", f"/vhosts/{self.name}")
            await self._http.aclose()

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API, once more where it had closed the connection that was kept open."""
        try:
            return await self._http.request(method, path, **options)
        except httpx.RemoteProtocolError:
            return await self._http.request(method, path, **options)

    async def _connect(self) -> None:
        url = BrokerUrl.parse(self.url)
        self._connection = await drivers.named("aio-pika").connect(
            url, url.hosts[0], name="schedule", on_blocked=lambda _: None
        )

    async def channel(self) -> DriverChannel:
        """Return an open channel."""
        if self._channel is None or not self._channel.is_open:
            if self._connection.closed.done():
                await self._connect()
            self._channel = await self._connection.channel()
        return self._channel

    async def names(self) -> list[str]:
        """Return the names of all queues."""
        answer = await self._ask("GET", f"/queues/{self.name}", params={"columns": "name"})
        answer.raise_for_status()
        return sorted(each["name"] for each in answer.json())

    async def state(self, queue: str) -> tuple[int, int]:
        """Return how many messages are ready and how many consumers there are; no queue: none."""
        try:
            found = await (await self.channel()).declare_queue(queue, passive=True)
        except ChannelClosedError:
            return 0, 0
        return found.messages, found.consumers

    async def take_all(self, queue: str) -> Queue:
        """Take all messages out of a queue."""
        channel, taken = await self.channel(), Queue(queue)
        while (incoming := await channel.get(queue)) is not None:
            properties = {
                "type": incoming.properties.type,
                "message_id": incoming.properties.message_id,
            }
            taken.messages.append(Message(incoming.body, properties))
            channel.ack(incoming.tag)
        self.content[queue] = taken
        return taken

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue with all that is in it."""
        await self._ask("DELETE", f"/queues/{self.name}/{quote(queue, safe='')}")

    async def close_connections(self) -> None:
        """Close the connections of all clients, as an operator does; not this one's own."""
        answer = await self._ask("GET", f"/vhosts/{self.name}/connections")
        for each in answer.json() if answer.is_success else ():
            if each.get("user_provided_name") != "schedule":
                await self._ask(
                    "DELETE",
                    f"/connections/{quote(each['name'], safe='')}",
                    headers={"X-Reason": "on purpose"},
                )

    # What the checker asks of the embedded broker

    def queues(self) -> list[Queue]:
        """Return the queues whose messages were taken."""
        return list(self.content.values())

    def messages(self, queue: str) -> list[Message]:
        """Return the messages that were taken from a queue."""
        return self.content[queue].messages if queue in self.content else []
