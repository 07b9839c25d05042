from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mqkit.cli.publish.journal import Journal, JournalError, line_hash

ONE, TWO, OTHER = line_hash(b"one"), line_hash(b"two"), line_hash(b"other")


def journal(
    path: Path, *, key: str = "key", resume: bool = False, anew: bool = False, exchange: str = "x"
) -> Journal:
    return Journal(path, exchange=exchange, routing_key=key, resume=resume, anew=anew)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f.jsonl.published.jsonl"


@pytest.fixture
def begun(path: Path) -> Path:
    with journal(path) as notes:
        notes.confirmed(1, ONE)
        notes.failed(2, TWO, "no queue")
        notes.confirmed(5000, TWO)
    return path


def test_it_remembers_what_was_confirmed(begun: Path) -> None:
    """A resumed journal knows confirmed lines by number and content, and no failed ones."""
    with journal(begun, resume=True) as notes:
        assert len(notes) == 2
        assert notes.has(1, ONE)
        assert notes.has(5000, TWO)
        assert not notes.has(1, TWO)
        assert not notes.has(2, TWO)
        assert notes.changed(1, OTHER)
        assert not notes.changed(1, ONE)
        assert not notes.changed(3, OTHER)


def test_it_goes_on_where_it_ended(begun: Path) -> None:
    """What a resumed run adds stands beside what the first one noted."""
    with journal(begun, resume=True) as notes:
        notes.confirmed(2, TWO)
    with journal(begun, resume=True) as notes:
        assert [notes.has(n, d) for n, d in ((1, ONE), (2, TWO), (5000, TWO))] == [True] * 3


def test_a_note_is_there_before_the_journal_is_closed(path: Path) -> None:
    """A process that is killed leaves every line in the file that it had noted."""
    notes = journal(path)
    notes.confirmed(1, ONE)
    assert ONE.hex() in path.read_text()
    notes.__exit__(None, None, None)


def test_nobody_sends_twice_by_accident(begun: Path) -> None:
    """A journal with confirmed lines is refused unless --resume or --anew says what is meant."""
    before = begun.read_bytes()
    with pytest.raises(JournalError, match=r"2 lines.*--resume.*--anew"):
        journal(begun)
    assert begun.read_bytes() == before


def test_no_flag_is_needed_where_nothing_was_confirmed(path: Path) -> None:
    """After a run in which every line failed, the next needs neither --resume nor --anew."""
    with journal(path) as notes:
        notes.failed(1, ONE, "no broker")
    with journal(path) as notes:
        assert len(notes) == 0


def test_anew_forgets(begun: Path) -> None:
    """With --anew no line counts as confirmed, in this run and the next."""
    with journal(begun, anew=True) as notes:
        assert not notes.has(1, ONE)
        notes.confirmed(2, TWO)
    with journal(begun, resume=True) as notes:
        assert len(notes) == 1


@pytest.mark.parametrize("kept", range(1, 45))
def test_a_torn_last_line_is_dropped(begun: Path, kept: int) -> None:
    """Where a crash cut the last line short, all others count and the next note is readable."""
    lines = begun.read_bytes().splitlines(keepends=True)
    begun.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
    with journal(begun, resume=True) as notes:
        assert notes.has(1, ONE)
        assert not notes.has(5000, TWO)
        notes.confirmed(5000, TWO)
    with journal(begun, resume=True) as notes:
        assert notes.has(5000, TWO)


def test_a_torn_header_is_written_again(path: Path) -> None:
    """A journal whose first line was cut short by a crash, wherever, begins anew."""
    with journal(path):
        whole = path.read_bytes()
    for kept in range(1, len(whole)):
        path.write_bytes(whole[:kept])
        with journal(path, resume=True) as notes:
            assert len(notes) == 0
        assert len(path.read_bytes()) == len(whole)


def test_a_power_cut_leaves_zeros(begun: Path) -> None:
    """Zeros at the end, as file systems leave them after a power cut, are dropped."""
    with begun.open("ab") as file:
        file.write(bytes(100))
    with journal(begun, resume=True) as notes:
        assert len(notes) == 2


@pytest.mark.parametrize("line", [b"{}", b"nonsense", b'{"line": 0, "hash": "00"}', b"[1]"])
def test_damage_in_the_middle_is_told(begun: Path, line: bytes) -> None:
    """A line that is no note, before others that are, is an error that names it."""
    lines = begun.read_bytes().splitlines(keepends=True)
    begun.write_bytes(b"".join([lines[0], line + b"\n", *lines[1:]]))
    with pytest.raises(JournalError, match="line 2"):
        journal(begun, resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_journal_of_something_else(begun: Path, *, resume: bool) -> None:
    """The journal of another exchange or routing key is refused, naming both."""
    with pytest.raises(JournalError, match="exchange 'x' with routing key 'key'"):
        journal(begun, key="other", resume=resume)
    with pytest.raises(JournalError, match="exchange 'x'"):
        journal(begun, exchange="", resume=resume)
    with journal(begun, key="other", anew=True) as notes:
        assert len(notes) == 0


@pytest.mark.parametrize("content", [b'{"a": 1}', b'{"a": 1}\n', b"[]\n", b"1\n2\n", b"\xff\n"])
@pytest.mark.parametrize("anew", [True, False])
def test_what_is_no_journal_is_never_cut(path: Path, content: bytes, *, anew: bool) -> None:
    """A file of something else is refused, --anew or not, and stays as it is."""
    path.write_bytes(content)
    with pytest.raises(JournalError, match="--journal"):
        journal(path, anew=anew)
    assert path.read_bytes() == content


def test_a_journal_of_a_later_version(path: Path) -> None:
    """A journal of a format that this version does not know is refused, and says so."""
    path.write_text('{"journal": 2, "exchange": "x", "routing_key": "key"}\n')
    with pytest.raises(JournalError, match="version 2"):
        journal(path, resume=True)


def test_one_run_at_a_time(begun: Path) -> None:
    """A second run over the same file is refused while the first goes on."""
    with journal(begun, resume=True), pytest.raises(JournalError, match="in use"):
        journal(begun, resume=True)
    with journal(begun, resume=True):
        """It was let go."""


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A directory that is not there and a path that is no file are errors, not tracebacks."""
    with pytest.raises(JournalError, match="No such file"):
        journal(tmp_path / "missing" / "journal")
    with pytest.raises(JournalError, match="directory"):
        journal(tmp_path)


def test_after_half_a_note_nothing_is_added(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full in the middle of a note, the journal stays readable."""
    notes = journal(path)
    notes.confirmed(1, ONE)
    real = os.write
    budget = [10]

    def full(file: int, data: bytes) -> int:
        if not budget:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data[: budget.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            notes.confirmed(2, TWO)
    assert notes.is_broken
    notes.confirmed(3, OTHER)
    notes.__exit__(None, None, None)
    with journal(path, resume=True) as again:
        assert len(again) == 1


def test_a_message_id_says_which_line_it_was(path: Path) -> None:
    """The id is the same in every run of a journal, and differs by line number and content."""
    with journal(path) as notes:
        ids = [notes.message_id(n, d) for n, d in ((1, ONE), (2, ONE), (1, TWO))]
        assert len(set(ids)) == 3
    moved = path.rename(path.with_name("elsewhere"))
    with journal(moved, resume=True) as notes:
        assert [notes.message_id(n, d) for n, d in ((1, ONE), (2, ONE), (1, TWO))] == ids


@pytest.mark.parametrize("how", ["another file", "anew", "the journal was deleted"])
def test_other_messages_have_other_ids(begun: Path, how: str) -> None:
    """The same line of another file, or of a run that begins again, is another message."""
    with journal(begun, resume=True) as notes:
        first = notes.message_id(1, ONE)
    if how == "the journal was deleted":
        begun.unlink()
    other = begun.with_name("other") if how == "another file" else begun
    with journal(other, anew=how == "anew") as notes:
        assert notes.message_id(1, ONE) != first


def test_a_journal_of_an_earlier_version_keeps_its_ids(path: Path) -> None:
    """What was on its way under the ids that such a version made is sent again under those."""
    path.write_text('{"journal": 1, "exchange": "x", "routing_key": "key"}\n')
    with journal(path, resume=True) as notes:
        assert notes.message_id(1, ONE) == "1e99ffbb-a8f1-5b11-93a8-cdbb1a607ebd"
    with journal(path, anew=True) as notes:
        assert notes.message_id(1, ONE) != "1e99ffbb-a8f1-5b11-93a8-cdbb1a607ebd"


def test_the_id_is_on_the_disk_before_anything_is_sent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a crash of the machine would leave stored messages whose ids the next run cannot make."""
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        assert path.read_bytes().endswith(b"\n")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with journal(path):
        assert synced == [str(path), str(path.parent)]


def test_only_its_owner_may_read_it(path: Path) -> None:
    """It is made with mode 0600, whatever the process's mask."""
    before = os.umask(0)
    try:
        with journal(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


DAMAGE = [
    b"[" * 100_000,
    b'{"line":' * 100_000,
    b"\0",
    b'"error"',
    b"5",
    b"null",
    b'{"line": ' + b"9" * 5_000 + b', "hash": "00"}',
    b'{"line": 1e999, "hash": "000000000000000000000000"}',
    b'{"line": NaN, "hash": "000000000000000000000000"}',
    b'{"line": 99999999999999999999, "hash": "000000000000000000000000"}',
    b'{"line": true, "hash": "000000000000000000000000"}',
    b'{"line": "1", "hash": "000000000000000000000000"}',
    b'{"line": 1, "hash": 5}',
    b'{"line": 1, "hash": "zz"}',
    b'{"line": 1, "hash": {"deep": []}}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("line", DAMAGE)
def test_any_damage_is_told(begun: Path, line: bytes) -> None:
    """Whatever a line holds, nested without end or a number without end: an error that names it."""
    whole = begun.read_bytes() + line + b"\n"
    begun.write_bytes(whole)
    with pytest.raises(JournalError, match="damaged in line 5"):
        journal(begun, resume=True)
    assert begun.read_bytes() == whole


@pytest.mark.parametrize(
    "line", [*DAMAGE, b'{"journal": true, "exchange": "x", "routing_key": "key"}']
)
@pytest.mark.parametrize("anew", [True, False])
def test_what_begins_with_anything_else_is_no_journal(
    path: Path, line: bytes, *, anew: bool
) -> None:
    """Nor is its first line a traceback, and the file stays as it is."""
    path.write_bytes(line + b"\n")
    with pytest.raises(JournalError, match="--journal"):
        journal(path, anew=anew)
    assert path.read_bytes() == line + b"\n"


@pytest.mark.parametrize("name", ["5", "[]", '{"a": 1}'])
def test_an_id_that_is_none_is_refused(path: Path, name: str) -> None:
    """A header whose id is no text was not written by mqkit publish."""
    path.write_text(f'{{"journal": 1, "id": {name}, "exchange": "x", "routing_key": "key"}}\n')
    with pytest.raises(JournalError, match="is not a journal"):
        journal(path, resume=True)
