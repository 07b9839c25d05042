"""A service that opens its connections itself, for `mqkit run`."""

from __future__ import annotations

import os

import aio_pika

from mqkit import Queue, Retry, Service


async def open_connection() -> aio_pika.abc.AbstractConnection:
    """A connection with settings of the application's own."""
    return await aio_pika.connect(
        os.environ["TEST_OWN_URL"], client_properties={"connection_name": "of the application"}
    )


service = Service("borrowed", retry=Retry.never(), connection=open_connection)


@service.handler(Queue(os.environ.get("TEST_QUEUE", "borrowed.q")))
async def note(body: bytes) -> None:
    """Say what came."""
    print(f"handled {body.decode()}", flush=True)  # noqa: T201 - the test reads it
