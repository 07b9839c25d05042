"""Routes that change something in the system, which are there with `--allow-changes` alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

NOT_ALLOWED = (
    "This console only shows. Nothing was changed: whoever runs it allows changes by starting it "
    "with --allow-changes."
)


class Changing(Route):
    """A route that changes something; always a POST."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        super().__init__(path, endpoint, methods=["POST"])

    def refused(self) -> Route:
        """Return the route that stands in its place where changes are not allowed."""
        return Route(self.path, _refuse, methods=["POST"])


async def _refuse(_: Request) -> NoReturn:
    raise HTTPException(403, NOT_ALLOWED)
