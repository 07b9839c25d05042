"""The console beside the demo: whether a browser is opened."""

from __future__ import annotations

import sys
import webbrowser

import pytest

from handlers.demo.watching import has_browser


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="there is always a screen")
def test_a_browser_is_opened_where_there_is_a_screen_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that draws in the terminal would take it over; without any there is nothing to open"""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser("browser"))
    assert not has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_browser()

    def fail() -> None:
        raise webbrowser.Error("there is none")

    monkeypatch.setattr(webbrowser, "get", fail)
    assert not has_browser()
