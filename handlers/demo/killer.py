"""Kills services on the way."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.demo.services import Services


class Killer:
    """Kills services (SIGKILL), each once, after equal parts of the orders."""

    def __init__(self, services: Services, names: Sequence[str], orders: int) -> None:
        self._services = services
        self._orders = orders
        parts = len(names) + 1
        self._kills = [(orders * (n + 1) // parts, name) for n, name in enumerate(names)]

    async def __call__(self, ended: int) -> None:
        """Kill the service whose turn it is, and start it again, once enough orders have ended."""
        while self._kills and ended >= self._kills[0][0]:
            _, name = self._kills.pop(0)
            await self._services.kill(name, f"after {ended:,} of {self._orders:,} orders")
