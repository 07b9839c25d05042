"""Checks whether an address is one of the console's own, and not of another site."""

from __future__ import annotations

LONGEST = 2_000
"""Characters of an address that is led on to."""


def own_path(there: str) -> str:
    r"""Return a path of the console's own; the first page in the place of any other address.

    `//host` and `/\host` are other hosts to a browser.
    """
    is_own = there.startswith("/") and not there.startswith(("//", "/\\")) and there.isprintable()
    return there if is_own and len(there) < LONGEST else "/"
