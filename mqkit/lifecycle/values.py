"""Makes the values of providers that live as long as the service, and closes them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from mqkit.lifecycle.closing import Step
from mqkit.registration.factories import make
from mqkit.registration.injection import Provider


class ServiceValues:
    """Holds the values that live as long as the service, by their type."""

    def __init__(self, made: dict[Any, Any]) -> None:
        """Make nothing yet.

        :param made: what is there without a provider
        """
        self.made = made
        self._closing: list[Step] = []

    async def make(self, providers: Mapping[Any, Provider]) -> None:
        """Make the values of those providers whose scope is the service."""
        for kind, provider in providers.items():
            if provider.scope != "service":
                continue
            arguments = {name: self.made[needed] for name, needed in provider.parameters.items()}
            # One for each, so that none which hangs holds up the others.
            stack = contextlib.AsyncExitStack()
            self._closing.append((f"its {getattr(kind, '__qualname__', kind)}", stack.aclose))
            self.made[kind] = await make(provider, arguments, stack)

    def closing(self) -> list[Step]:
        """Return the steps that close them, the last one made first."""
        return self._closing[::-1]
