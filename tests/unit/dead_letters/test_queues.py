"""The names of the queues around dead letters."""

from __future__ import annotations

import pytest

from mqkit.dead_letters.queues import Names
from mqkit.errors import ConfigurationError


@pytest.mark.parametrize("given", ["ledger.post", "ledger.post.dead"])
def test_a_queue_and_its_dead_letter_queue_name_the_same(given: str) -> None:
    """Whoever names either means the dead letters."""
    names = Names.of(given)
    assert (names.queue, names.dead) == ("ledger.post", "ledger.post.dead")
    assert (names.archive, names.audit) == ("ledger.post.dead.archive", "ledger.post.dead.audit")


@pytest.mark.parametrize("given", ["", ".dead", "x" * 191, "x" * 191 + ".dead", "\ud800"])
def test_what_is_no_name_is_refused(given: str) -> None:
    """A name that no handler's queue can have is an error."""
    with pytest.raises(ConfigurationError):
        Names.of(given)
