"""Pages are played, and those that are not as they say fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PageError, read
from tests.docs.player import play

FILE = '```python title="shop/{name}.py"\n{text}\n```\n'


def play_text(tmp_path: Path, text: str) -> None:
    """Play a page of this text."""
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text(text)
    play(read(page, tmp_path), tmp_path)


def test_python_goes_on_from_block_to_block(tmp_path: Path) -> None:
    """Blocks share a namespace, files can be imported when they are written, `await` works"""
    play_text(
        tmp_path,
        """
```python
import asyncio

x = 1
```

```python title="shop/first.py"
x = 2
```

<!-- before: await asyncio.sleep(0) -->
```python
from shop import first

assert (x, first.x) == (1, 2)
assert await asyncio.sleep(0, "done") == "done"
```

```python
asyncio.run(asyncio.sleep(0))
```

```python title="shop/first.py"
x = 3
```

```python title="shop/first.py (continued)"
y = x + 1
```

```python title="shop/second.py"
from shop.first import x, y

assert (x, y) == (3, 4)
```
""",
    )


def test_commands_go_on_from_block_to_block(tmp_path: Path) -> None:
    """Commands share an environment and files; a failure is one that the page asks about"""
    play_text(
        tmp_path,
        """
```json title="order.json"
{"id": 1}
```

```console
$ export ORDER=order.json
$ cat $ORDER
{"id": 1}
$ python -m venv .venv
$ . .venv/bin/activate
$ pip install 'mqkit[cli,store]'
$ grep nothing $ORDER
$ echo $?
1
$ mkdir below
$ cd below
```

```console
$ ls ../$ORDER
../order.json
```
""",
    )


def test_a_terminal_goes_on_beside_the_page(tmp_path: Path) -> None:
    """What runs in a terminal prints while the page goes on, until it is interrupted"""
    play_text(
        tmp_path,
        """
```console title="terminal 1"
$ echo started; trap 'echo ended; exit' INT; until test -e go; do sleep 0.05; done; \\
> echo gone; sleep 9
started
```

```console
$ touch go
```

```console title="terminal 1"
gone
```

```console title="terminal 1"
^C
ended
```
""",
    )


def test_an_embedded_broker_is_there_for_a_page_that_names_one(tmp_path: Path) -> None:
    """The URL of a page's broker leads to one of its own, in Python and in a shell"""
    play_text(
        tmp_path,
        """
```python
from mqkit import BrokerUrl

url = BrokerUrl.parse("amqp://guest:guest@localhost/")
assert url.hosts[0].port != 5672
```

```console
$ python -c "import socket; socket.create_connection(('127.0.0.1', int('127.0.0.1:5672'[10:])))"
```
""",
    )


TESTS = FILE.format(name="test_it", text="def test_it():\n    assert {claim}")


def test_tests_of_a_page_are_run(tmp_path: Path) -> None:
    """A page's tests are run by pytest where no command of the page does"""
    with pytest.raises(PageError, match="1 failed"):
        play_text(tmp_path, TESTS.format(claim="1 == 2"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("```python\nraise KeyError('why')\n```\n", "why"),
        (FILE.format(name="bad", text="import no_such_module"), "no_such_module"),
        ("```python\ndef test_x():\n    pass\n```\n", "need a file"),
        (
            "```console\n$ echo one\ntwo\n```\n",
            "echo one printed\none\n----- and the page shows\ntwo",
        ),
        ("```console\n$ false\n```\n", "page.md:1: its last command failed with 1"),
        ("```console\n$ false\n$ true\n```\n", "the command before `true` failed with 1"),
        ("```console\n$ pip install 'mqkit[clii]'\n```\n", "no extra clii"),
        ('```console title="one"\n$ echo a\nb\n```\n', "echo a printed\na\n----- and the page"),
        ('```console title="one"\nx\n```\n', "nothing runs in one"),
        ('```console title="one"\n$ sleep 9\n$ true\n```\n', "one is busy"),
        ("```console\nonly output\n```\n", "only a terminal with a title"),
        ("```toml\n= 1\n```\n", "page.md:1: no toml"),
        ("```jsonl\n{}\n{\n```\n", "page.md:1: no jsonl"),
        ("```ruby\nputs 1\n```\n", "no block is 'ruby'"),
        ("<!-- not run: of another library -->\n```python\n1 +\n```\n", "page.md:2: no Python"),
    ],
)
def test_a_broken_block_fails(tmp_path: Path, text: str, why: str) -> None:
    """A block that does not do what it says fails its page, naming it"""
    with pytest.raises(Exception, match=re.escape(why)):
        play_text(tmp_path, text)


def test_a_block_that_is_not_run_does_nothing(tmp_path: Path) -> None:
    """A block with a reason above it is only read"""
    play_text(tmp_path, "<!-- not run: ends the test -->\n```python\nraise SystemExit\n```\n")
