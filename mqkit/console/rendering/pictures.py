"""Puts pictures into pages: as they are, so that their text can be read, found and copied."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from mqkit.console.access.guard import POLICY
from mqkit.console.desk import desk_of, page
from mqkit.console.rendering import text
from mqkit.console.rendering.templates import THEME_COOKIE, THEMES
from mqkit.logging.masking import Masker
from mqkit.pictures.inline import inline

_TEXT = re.compile(r"(<(text|title|desc)\b[^>]*>)([^<]*)(?=</\2>)")


def page_with_pictures(
    request: Request, template: str, pictures: Sequence[str], *, title: str, **values: object
) -> Response:
    """Render a page that has pictures, `pictures` in its template, whose styles it allows by hash.

    It does not look again by itself: a picture that has become another one has another style.
    """
    theme = request.cookies.get(THEME_COOKIE, "")
    masker = desk_of(request).masker
    found = [inline(masked(each, masker), theme if theme in THEMES else "") for each in pictures]
    shown = [Markup(each.markup) for each in found]  # noqa: S704 - drawn here, its texts escaped
    answer = page(request, template, title=title, pictures=shown, **values)
    styles = " ".join(dict.fromkeys(each.style for each in found))
    if styles:
        policy = POLICY.replace("style-src 'self'", f"style-src 'self' {styles}")
        answer.headers["content-security-policy"] = policy
    return answer


def masked(picture: str, masker: Masker) -> str:
    """Mask secrets in the texts of a picture."""

    def mask(found: re.Match[str]) -> str:
        return found[1] + html.escape(text.clean(html.unescape(found[3]), masker), quote=False)

    return _TEXT.sub(mask, picture)
