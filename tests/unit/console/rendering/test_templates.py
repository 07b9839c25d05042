"""Templates, in which values are text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
from markupsafe import Markup

from mqkit.console.desk import Desk
from mqkit.console.rendering.templates import TEMPLATES, svg
from tests.unit.console.samples import Watch, browser, settings

CARD = "4111 1111 1111 1111"


def written(template: str, **values: Any) -> str:
    """Render a template of this test."""
    environment = Desk(settings(), Watch()).templates._environment
    return environment.from_string(template).render(**values)


def test_each_value_is_escaped_masked_and_printable() -> None:
    """Wherever it stands, and a number stays one; None is a dash."""
    assert written("{{ a }}", a="<b> password=planted \u202e") == "&lt;b&gt; password=*** \\u202e"
    assert written("{{ a }}|{{ b }}", a=None, b=1.5) == "\N{EN DASH}|1.5"


def test_a_text_is_masked_before_it_is_cut() -> None:
    """Half of a card's number would not be known as one."""
    for length in range(len(CARD) + 8):
        told = written("{{ a | brief(n) }}", a=f"card {CARD} x", n=length)
        assert "4111" not in told
    assert written("{{ a | brief(9) }}", a="a" * 10) == "aaaaaaaaa [cut]"


def test_a_name_is_broken_after_its_dots_and_still_is_text() -> None:
    """Escaped, masked before it is parted; markup of our own and numbers stay what they are."""
    assert written("{{ a | parted }}", a="shop.<b>.take") == "shop.<wbr>&lt;b&gt;.<wbr>take"
    secret = "a.b password=pla.nted"
    assert written("{{ a | parted }}", a=secret) == "a.<wbr>b password=***"
    assert written("{{ a | parted }}|{{ b | parted }}", a=Markup("<i>a.b</i>"), b=1.5) == (
        "<i>a.b</i>|1.5"
    )


def test_all_templates_are_read_at_once_where_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After that, the first page that somebody asks for takes no longer than the second."""
    made = Desk(settings(), Watch()).templates
    made.load()
    names = {path.name for path in TEMPLATES.glob("*.html")}
    monkeypatch.setattr(jinja2.Environment, "compile", None)
    assert names
    assert all(made._environment.get_template(name) for name in names)


def test_what_a_template_was_not_given_is_an_error() -> None:
    """No page shows nothing where something was meant."""
    with pytest.raises(jinja2.UndefinedError):
        written("{{ nothing }}")


def test_no_template_shows_a_value_as_markup() -> None:
    """None of them has `safe`, a style or a script of its own."""
    for path in Path(TEMPLATES).glob("*.html"):
        text = path.read_text()
        for word in ("| safe", "|safe", "autoescape", " style=", "<style", "<script>", "onclick"):
            assert word not in text, (path.name, word)


def test_a_picture_can_run_nothing() -> None:
    """Also where it is opened by itself."""
    policy = svg("<svg/>").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy


@pytest.mark.parametrize(
    "query", ["path=1", "number=1&size=2", "self=1", "<b>=<i>", "page=&page=3"]
)
async def test_whatever_an_address_asks_is_no_failure(query: str) -> None:
    """Names of arguments among it."""
    async with browser() as one:
        for page in ("/queues", "/handlers", "/dead-letters"):
            answer = await one.http.get(f"{page}?{query}")
            assert answer.status_code == 200
            assert "<i>" not in answer.text
