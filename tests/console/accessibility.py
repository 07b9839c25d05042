"""Checks pages for who cannot see them, cannot use a mouse, or has a small screen.

axe-core is installed from npm's registry by npm itself, in the version and with the hash of the
lock file beside this.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Page

LOCKED = Path(__file__).parent / "axe"

SERIOUS = ("serious", "critical")
"""The impacts of findings that fail a test."""


class NoAxeError(Exception):
    """axe-core could not be installed; the message says why."""


def axe(folder: Path) -> Path:
    """Return the script of axe-core, installed once into a folder that is kept.

    :raises NoAxeError: there is no npm, or it failed
    """
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    lock = "package-lock.json"
    if script.is_file() and _same(LOCKED / lock, folder / lock):
        return script
    npm = shutil.which("npm")
    if npm is None:
        raise NoAxeError("axe-core is an npm package: install Node.js and npm for this test")
    folder.mkdir(parents=True, exist_ok=True)
    # Elsewhere, and then put there: other test processes may do the same now.
    with tempfile.TemporaryDirectory(dir=folder) as name:
        fresh = Path(name)
        for each in ("package.json", lock):
            shutil.copy(LOCKED / each, fresh)
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoAxeError(f"npm cannot install axe-core:\n{done.stderr[-2000:]}")
        script.parent.mkdir(parents=True, exist_ok=True)
        (fresh / "node_modules" / "axe-core" / script.name).replace(script)
        (fresh / lock).replace(folder / lock)
    return script


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


@functools.cache
def _text(script: Path) -> str:
    return script.read_text(encoding="utf-8")


async def findings(page: Page, script: Path) -> list[str]:
    """Return the serious findings of axe on a page as it is now, a line for each element."""
    # By the debugger, which the page's content security policy does not concern.
    await page.evaluate(_text(script))
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe has checked nothing"
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['html'][:200]}: "
        f"{' '.join(node['failureSummary'].split())[:300]}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


_OVERFLOWING = """() => {
    const wide = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= wide) return [];
    const inside = element => {
        for (let up = element.parentElement; up; up = up.parentElement)
            if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(up).overflowX))
                return true;
        return false;
    };
    const found = [...document.querySelectorAll('body *')].filter(
        each => each.getBoundingClientRect().right > wide + 1 && !inside(each));
    return found.slice(0, 5).map(each => each.outerHTML.slice(0, 160)).concat(
        [`the page is ${document.documentElement.scrollWidth} pixels wide of ${wide}`]);
}"""


async def overflowing(page: Page) -> list[str]:
    """Return what makes a page scroll sideways; nothing where it does not."""
    found: list[str] = await page.evaluate(_OVERFLOWING)
    return found


_CUT = """() => [...document.querySelectorAll('.scroll > table')].filter(
    each => each.parentElement.scrollWidth > each.parentElement.clientWidth + 1
).map(each => `the table '${each.caption.innerText}' is cut: `
    + `${each.parentElement.scrollWidth} of ${each.parentElement.clientWidth} pixels`)"""


async def cut_tables(page: Page) -> list[str]:
    """Return the tables of which one sees a part only until one scrolls them by themselves."""
    found: list[str] = await page.evaluate(_CUT)
    return found


async def focused(page: Page) -> str:
    """Say which element has the keyboard, by its name for who cannot see it."""
    return str(
        await page.evaluate(
            "(e => e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText "
            "|| e.value || e.name || e.tagName)(document.activeElement).trim().slice(0, 200)"
        )
    )


async def tab_to(page: Page, name: str, *, most: int = 200) -> None:
    """Press Tab until the element of this name has the keyboard, as one who has no mouse does.

    :raises AssertionError: it is not reached; the message says what was
    """
    seen: list[str] = []
    for _ in range(most):
        await page.keyboard.press("Tab")
        seen.append(await focused(page))
        if seen[-1] == name:
            await _shows_focus(page)
            return
    raise AssertionError(f"{name!r} cannot be reached by Tab: {list(dict.fromkeys(seen))}")


async def _shows_focus(page: Page) -> None:
    """Check that one sees where the keyboard is."""
    is_seen = await page.evaluate(
        "(e => { const s = getComputedStyle(e); return s.outlineStyle === 'auto' || "
        "s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 || "
        "s.boxShadow !== 'none'; })(document.activeElement)"
    )
    assert is_seen, f"one does not see that {await focused(page)!r} has the keyboard"
