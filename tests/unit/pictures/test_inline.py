"""A picture that stands in a page of HTML."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from mqkit.pictures.graph import graph_svg
from mqkit.pictures.inline import inline
from mqkit.pictures.values import Node

PICTURE = graph_svg([Node("q", "a & <b>", "queue")], [], title="One")


@pytest.mark.parametrize("theme", ["", "light", "dark"])
def test_its_style_has_the_hash_that_a_policy_names(theme: str) -> None:
    """Of the text as it stands in the page, in each theme"""
    found = inline(PICTURE, theme)
    (style,) = re.findall(r"<style>(.*?)</style>", found.markup, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert found.style == f"'sha256-{digest}'"
    assert not set("<>&") & set(style), "HTML and XML read it alike"


def test_a_page_that_is_dark_has_dark_pictures() -> None:
    """Whatever the system prefers; without a choice it is the system's"""
    assert inline(PICTURE).markup == PICTURE
    assert PICTURE.count("@media") == 1
    assert "@media all{" in inline(PICTURE, "dark").markup
    assert "@media not all{" in inline(PICTURE, "light").markup
