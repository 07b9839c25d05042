"""Does the work on dead letters that pages ask for, by `mqkit.dead_letters`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any

from mqkit.console.letters.aside import Aside
from mqkit.console.letters.jobs import Chosen, Job, Jobs, What, Work
from mqkit.console.letters.looks import Look, Looks
from mqkit.console.settings import ConsoleSettings
from mqkit.console.sources import OpenedStore
from mqkit.dead_letters import (
    AuditEntry,
    DeadLetterNotFoundError,
    DeadLetters,
    Filter,
    Pace,
    Survey,
)
from mqkit.dead_letters.messages.letters import Letter
from mqkit.logging.masking import Masker
from mqkit.logging.shown import shown
from mqkit.registration.service import Service

CONNECT_TIMEOUT = 5.0
"""Seconds in which the broker must be reached."""

AUDITED = 200
"""Entries of the audit that are shown."""


class Inboxes:
    """The inboxes of all stores together: what one of them has handled was handled."""

    def __init__(self, stores: Sequence[OpenedStore]) -> None:
        """Take the stores, which belong to the running event loop."""
        self._stores = stores
        self._loop = asyncio.get_running_loop()

    async def handled(
        self, handler: str, queue: str, message_ids: Sequence[str]
    ) -> Collection[str]:
        """Return those of the messages that the handler has had its effect for; on any loop.

        :raises StoreError: one of the stores cannot be asked
        """
        asked = self._handled(handler, queue, message_ids)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, self._loop))

    async def _handled(self, handler: str, queue: str, message_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for each in self._stores:
            store = await each.store()
            found |= await store.handled(handler, queue, message_ids)
        return found


class LetterWork:
    """Looks at dead letters and moves them, for the pages of one console."""

    def __init__(
        self, settings: ConsoleSettings, masker: Masker, stores: Sequence[OpenedStore]
    ) -> None:
        self._settings = settings
        self._masker = masker
        self._stores = stores
        self._aside = Aside()
        self.looks = Looks()
        self.jobs = Jobs(self._ended)

    async def close(self) -> None:
        """Stop what is under way."""
        await self.jobs.close()
        await self.looks.close()
        await self._aside.close()

    async def survey(self, queue: str, *, archived: bool) -> Look[Survey]:
        """Return the groups and letters of a queue's dead letters, as they were last seen."""

        async def read() -> Survey:
            async with self._connected(queue) as letters:
                return await letters.survey(archived=archived)

        return await self._look(("survey", queue, str(archived)), queue, read)

    async def letter(self, queue: str, ref: str, *, archived: bool) -> Look[dict[str, Any]]:
        """Return all that there is to one dead letter, without secrets."""
        chosen = Filter(ids=frozenset({ref}))

        async def read() -> dict[str, Any]:
            async with self._connected(queue) as letters:
                found = await letters.letters(chosen, limit=1, has_body=True, archived=archived)
                return self._detail(letters, found, queue, ref)

        return await self._look(("letter", queue, str(archived), ref), queue, read)

    @staticmethod
    def _detail(
        letters: DeadLetters, found: Sequence[Letter], queue: str, ref: str
    ) -> dict[str, Any]:
        if not found:
            raise DeadLetterNotFoundError(
                f"there is no dead letter {shown(ref)} of {shown(queue)} any more: it was "
                "replayed, archived or dropped meanwhile"
            )
        return letters.detail(found[0])

    async def audit(self, queue: str) -> Look[list[AuditEntry]]:
        """Return who did what with a queue's dead letters, the latest first."""

        async def read() -> list[AuditEntry]:
            async with self._connected(queue) as letters:
                return [*reversed(await letters.audit(AUDITED))]

        return await self._look(("audit", queue), queue, read)

    async def _look(
        self, key: tuple[str, ...], queue: str, read: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Look[Any]:
        # While a job has the queue, a look would wait for its lock, and fail.
        may_read = self.jobs.running(queue) is None
        return await self.looks.at(key, lambda: self._aside.run(read), may_read=may_read)

    def group_words(self, queue: str, group: str) -> str:
        """Name a group by its failure, where that was seen."""
        for archived in (False, True):
            look = self.looks.known(("survey", queue, str(archived)))
            for each in look.found.groups if look is not None and look.found is not None else ():
                if each.group == group:
                    return f"{each.error_type or each.reason}, group {group}"
        return f"group {group}"

    def forget(self, queue: str) -> None:
        """Look again at the dead letters of a queue, the next time that a page asks for them."""
        for kind in ("survey", "letter", "audit"):
            self.looks.forget(kind, queue)

    def rehearse(self, chosen: Chosen) -> Job:
        """Begin to find out what a replay would meet; it changes nothing.

        :raises JobRunningError: another job is at work on the same dead letters
        """
        service = self._service_of(chosen.queue)
        inbox = Inboxes(self._stores) if self._stores and service is not None else None

        async def work(job: Job) -> None:
            async with self._connected(chosen.queue) as letters:
                job.rehearsed = await letters.rehearse(chosen.filter, service=service, inbox=inbox)

        return self.jobs.start(What.REHEARSE, chosen, self._beside_pages(work))

    def move(self, what: What, chosen: Chosen, *, why: str, pace: Pace, meant: int | None) -> Job:
        """Begin to replay, archive or restore dead letters.

        :raises JobRunningError: another job is at work on the same dead letters
        """

        async def work(job: Job) -> None:
            async with self._connected(chosen.queue) as letters:
                match what:
                    case What.REPLAY:
                        await letters.replay(chosen.filter, why=why, pace=pace, live=job.watch)
                    case What.ARCHIVE:
                        await letters.archive(chosen.filter, why=why, live=job.watch)
                    case What.RESTORE:
                        await letters.restore(chosen.filter, why=why, live=job.watch)

        return self.jobs.start(what, chosen, self._beside_pages(work), why=why, meant=meant)

    def _beside_pages(self, work: Callable[[Job], Coroutine[Any, Any, None]]) -> Work:
        """Make what does a job's work where it holds up no page, once no look has the queue."""

        async def beside(job: Job) -> None:
            await self.looks.ended(job.chosen.queue)
            await self._aside.run(lambda: work(job))

        return beside

    def _ended(self, job: Job) -> None:
        if job.what is not What.REHEARSE:
            self.forget(job.chosen.queue)

    def _connected(self, queue: str) -> DeadLetters:
        return DeadLetters(
            self._settings.url,
            queue,
            who=self._settings.who,
            masker=self._masker,
            connect_timeout=CONNECT_TIMEOUT,
        )

    def _service_of(self, queue: str) -> Service | None:
        """Return the service whose handler takes a queue's messages, if it was named."""
        for service in self._settings.services:
            if any(each.queue.name == queue for each in service.handlers):
                return service
        return None
