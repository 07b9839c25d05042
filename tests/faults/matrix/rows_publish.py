"""Rows 24 and 25: messages that cannot be sent, and messages that look alike."""

from __future__ import annotations

import asyncio

from mqkit.errors import InvalidMessageError, UnroutableError
from tests.faults.matrix.row import Bench, row
from tests.faults.matrix.services import DRIVERS, applying

GIANT = 1_000_000
"""Bytes of a header; RabbitMQ's `frame_max` is 131,072."""

AROUND = 10
"""Ordinary messages that are in flight together with the giant one."""


@row(24, "giant headers", short=2)
async def giants(bench: Bench) -> None:
    """Refused before anything is written; the connection stays, and all others are confirmed."""
    queue = "matrix.giant"
    async with bench.serving(applying(bench.journal, queue)):
        for number in range(bench.faults):
            async with bench.client(driver=DRIVERS[number % len(DRIVERS)]) as client:
                publisher, link = client.publisher, client.connection
                headers = {**bench.headers(), "giant": bench.secrets.card * (GIANT // 16)}
                results = await asyncio.gather(
                    *(bench.publish(publisher, "", queue) for _ in range(AROUND)),
                    publisher.publish("", queue, bench.body("giant"), headers=headers),
                    *(bench.publish(publisher, "", queue) for _ in range(AROUND)),
                    return_exceptions=True,
                )
                bench.fault()
                refused = [result for result in results if isinstance(result, BaseException)]
                bench.check(
                    len(refused) == 1 and isinstance(refused[0], InvalidMessageError),
                    f"publishes beside a giant one got {refused}",
                )
                bench.check(link.is_up and link.generation == 1, "the connection was lost")
                await bench.publish(publisher, "", queue)
        await bench.all_ended()
    bench.check(not bench.journal.runs("giant"), "the giant message arrived")


@row(25, "equal message ids in flight", short=3)
async def equal_ids(bench: Bench) -> None:
    """One is routable and one is not; each caller gets its own result."""
    queue = "matrix.equal"
    async with bench.serving(applying(bench.journal, queue)):
        for driver in DRIVERS:
            async with bench.client(driver=driver) as client:
                publisher = client.publisher
                pairs = [bench.key() for _ in range(-(-bench.faults // len(DRIVERS)))]
                results = await asyncio.gather(
                    *(bench.publish(publisher, "", queue, key=key) for key in pairs),
                    *(
                        publisher.publish("", "matrix.nowhere", bench.body(key), message_id=key)
                        for key in pairs
                    ),
                    return_exceptions=True,
                )
                bench.fault(len(pairs))
                routed, nowhere = results[: len(pairs)], results[len(pairs) :]
                bench.check(routed == pairs, f"the routable ones got {routed}")
                bench.check(
                    all(isinstance(result, UnroutableError) for result in nowhere),
                    f"the unroutable ones got {nowhere}",
                )
        await bench.all_ended()
