"""Reads the frames of an aiormq connection that the application opened, for mqkit's channels.

Its other channels are the application's, and get what pamqp makes of their frames, as before.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

import aiormq
from aiormq.abc import AbstractConnection
from aiormq.connection import FrameReceiver
from pamqp import frame as pamqp_frame
from pamqp.body import ContentBody
from pamqp.exceptions import PAMQPException

from mqkit.drivers import frames
from mqkit.drivers.aio_pika import convert
from mqkit.drivers.aio_pika.channel import AioPikaChannel
from mqkit.errors import ConfigurationError


def read_for(connection: AbstractConnection) -> None:
    """Have the frames of a connection read by mqkit; nothing changes when called again.

    :raises ConfigurationError: this aiormq has no place for it
    """
    receiver = _receiver(connection)
    if "get_frame" in vars(receiver):
        return

    async def get_frame() -> tuple[int, int, Any]:
        return await _next(receiver.reader, connection)

    # aiormq calls it for each frame, and finishes the one that it waits for now.
    receiver.get_frame = get_frame  # type: ignore[method-assign]


def _receiver(connection: AbstractConnection) -> FrameReceiver:
    """Find aiormq's frame receiver, which it (7.2.4) keeps as a variable of the task that reads."""
    task: Any = getattr(connection, "_reader_task", None)
    found = None
    if task is not None:
        coroutine = getattr(task, "get_coro", lambda: None)()
        while coroutine is not None and found is None:
            frame = getattr(coroutine, "cr_frame", None)
            found = frame.f_locals.get("frame_receiver") if frame is not None else None
            coroutine = getattr(coroutine, "cr_await", None)
    if not isinstance(found, FrameReceiver):
        raise ConfigurationError(
            f"aiormq {version('aiormq')} lacks the place where mqkit reads what comes by a "
            "connection of the application's; use aiormq 7, or give the service a URL"
        )
    return found


async def _next(
    reader: asyncio.StreamReader, connection: AbstractConnection
) -> tuple[int, int, Any]:
    if reader.at_eof():
        raise StopAsyncIteration
    try:
        start = await reader.readexactly(frames.HEAD.size)
        kind, number, size = frames.HEAD.unpack(start)
        rest = await reader.readexactly(size + 1)
    except (asyncio.IncompleteReadError, OSError) as error:
        raise aiormq.exceptions.AMQPConnectionError(
            f"Server connection unexpectedly closed: {error!r}"
        ) from error
    if rest[-1] == frames.END and isinstance(connection.channels.get(number), AioPikaChannel):
        kind, payload = convert.passed_by(kind, rest[:-1])
        if kind == frames.BODY:
            return 0, number, ContentBody(payload)
        start, rest = frames.HEAD.pack(kind, number, len(payload)), payload + rest[-1:]
    try:
        return pamqp_frame.unmarshal(start + rest)
    except PAMQPException as error:
        raise aiormq.exceptions.InvalidFrameError(str(error)) from error
