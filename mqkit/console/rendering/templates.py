"""Renders templates: each value is escaped as text and masked. Adds what all pages have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mqkit.clock import Clock, utc_now
from mqkit.console.rendering import text
from mqkit.logging.masking import Masker

TEMPLATES = Path(__file__).parent.parent / "templates"

THEME_COOKIE = "mqkit-console-theme"
THEMES = ("light", "dark")

REFRESH = 5
"""Seconds between two looks of a page that refreshes itself."""


class Templates:
    """The templates of the console."""

    def __init__(
        self,
        masker: Masker,
        *,
        pages: Sequence[tuple[str, str]],
        common: Callable[[], dict[str, Any]],
        clock: Clock = utc_now,
    ) -> None:
        """Read none yet.

        :param pages: paths and names of the pages that each page leads to
        :param common: returns what each page of a session shows, beside its own
        """
        self._masker = masker
        self._pages = pages
        self._common = common
        self._clock = clock
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=self._shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        functions = (text.number, text.rate, text.share, text.span, text.size, text.counted)
        self._environment.filters.update({each.__name__: each for each in functions})
        self._environment.filters["brief"] = self._brief
        self._environment.filters["parted"] = self._parted
        # `exact` is for a field that is sent back as it is, such as a queue's name.
        self._environment.globals |= {"link": text.link, "exact": escape}

    def load(self) -> None:
        """Read all templates now, which takes half a second, and not when a page first needs it."""
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def _shown(self, value: Any) -> Any:
        """Write a value as a page shows it: text without secrets; markup of our own as it is."""
        match value:
            case None:
                return text.NONE
            case Markup() | int() | float():
                return value
            case _:
                return text.clean(str(value), self._masker)

    def _brief(self, value: object, length: int) -> str:
        """Cut a text once its secrets are masked: half of one would not be known as one."""
        whole = text.clean(str(value), self._masker)
        return whole if len(whole) <= length else f"{whole[:length].rstrip()} [cut]"

    def _parted(self, value: Any) -> Any:
        """Let a long name be broken after its dots; copied, it is what it was."""
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        return Markup(".<wbr>").join(text.clean(value, self._masker).split("."))

    def page(
        self, request: Request, template: str, *, title: str, status: int = 200, **values: Any
    ) -> Response:
        """Render a page.

        :param title: its name, at its top and on the browser's tab
        :param values: what its template shows
        """
        now = self._clock()
        session = getattr(request.state, "session", None)
        theme = request.cookies.get(THEME_COOKIE)
        common: dict[str, Any] = {
            "title": title,
            "path": request.url.path,
            "here": text.link(request.url.path, **dict(request.query_params)),
            "query": request.query_params,
            "pages": self._pages,
            "theme": theme if theme in THEMES else "",
            "csrf": escape(session.csrf) if session else None,
            "notes": session.take_notes() if session and status < 400 else [],  # noqa: PLR2004
            "now": now,
            "refresh": None,
            "when": lambda moment: text.when(moment, now),
            "dated": lambda moment: text.dated(moment, now),
            **(self._common() if session else {"overview": None, "allow_changes": False}),
        }
        page = self._environment.get_template(template)
        return HTMLResponse(page.render({**common, **values}), status)


def svg(picture: str) -> Response:
    """Answer with a picture, for an `<img>`; its style is its own, and it can run nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
    return Response(
        picture, media_type="image/svg+xml", headers={"content-security-policy": policy}
    )


__all__ = ["REFRESH", "THEMES", "THEME_COOKIE", "Templates", "svg"]
