"""The blocks of a page, as they are read."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.docs.pages import Block, PageError, read


def blocks(tmp_path: Path, text: str, **included: str) -> list[Block]:
    """Read a page of this text."""
    (tmp_path / "docs").mkdir()
    for name, content in included.items():
        (tmp_path / "docs" / f"{name}.py").write_text(content)
    page = tmp_path / "docs" / "page.md"
    page.write_text(textwrap.dedent(text))
    return read(page, tmp_path)


def test_a_block_has_what_its_comments_say(tmp_path: Path) -> None:
    """Language, title, hidden Python and the reason not to run are read, in a list as well"""
    first, second = blocks(
        tmp_path,
        """
        <!-- before:
        x = 1
        -->

        ```python title="shop/ledger.py" hl_lines="1"
        y = x
        ```

        - An item:

            <!-- not run: it asks
                 a person -->
            ```console
            $ passwd
            ```
        """,
    )
    assert first == Block("docs/page.md:6", 6, "python", "shop/ledger.py", "y = x\n", "x = 1\n")
    assert (second.text, second.not_run) == ("$ passwd\n", "it asks a person")


def test_a_comment_holds_for_the_next_block_alone(tmp_path: Path) -> None:
    """A reason above a paragraph is not that of a block below it"""
    (block,) = blocks(tmp_path, "<!-- not run: why -->\n\nA line.\n\n```text\nx\n```\n")
    assert block.not_run is None


def test_an_example_is_included(tmp_path: Path) -> None:
    """Of a file that a block includes, it has the section that it names"""
    source = "import x\n# --8<-- [start:view]\ndef view():\n    pass\n# --8<-- [end:view]\n"
    text = '```python\n--8<-- "example.py:view"\n```\n\n```python\n--8<-- "example.py"\n```\n'
    section, whole = blocks(tmp_path, text, example=source)
    assert section.text == "def view():\n    pass\n"
    assert whole.text == "import x\ndef view():\n    pass\n"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("```\nx\n```\n", "page.md:1: a block without a language"),
        ("\n```python\nx = 1\n", "page.md:2: a block without an end"),
        ("Run it:\n\n    make test\n", "page.md:3: an indented block"),
        ('```python\n--8<-- "gone.py"\n```\n', "includes gone.py, which is not there"),
        ("<!-- before: x = 1\n", "a comment without an end"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, text: str, what: str) -> None:
    """A page that could hide a block from its test is refused, naming the line"""
    with pytest.raises(PageError, match=what):
        blocks(tmp_path, text)
