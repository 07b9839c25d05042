"""Fits a picture to a page of HTML, in which it stands: its colours, and its style's hash."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)

_DARK = "@media (prefers-color-scheme:dark)"

_THEMES = {"": _DARK, "light": "@media not all", "dark": "@media all"}


@dataclass(frozen=True, slots=True)
class Inline:
    """A picture as it stands in a page."""

    markup: str
    style: str
    """Its style as a content security policy allows it: `sha256-...`, in quotes."""


def inline(picture: str, theme: str = "") -> Inline:
    """Fit a picture, as this package draws it, to a page.

    :param theme: 'light' or 'dark', where the page is that, whatever the system prefers
    """
    (style,) = _STYLE.findall(picture)
    fitted = style.replace(_DARK, _THEMES[theme])
    hashed = base64.b64encode(hashlib.sha256(fitted.encode()).digest()).decode()
    return Inline(picture.replace(style, fitted, 1), f"'sha256-{hashed}'")
