"""The store's benchmark: its arguments, its figures, and that its programs do their work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mqkit.errors import ConfigurationError
from mqkit.testing.brokers.broker import Broker
from tests.benchmarks.side_by_side.chart import chart
from tests.benchmarks.side_by_side.figures import Row
from tests.benchmarks.side_by_side.process import run
from tests.benchmarks.side_by_side.registry import ROOT
from tests.benchmarks.side_by_side.room import Room, WorkError
from tests.benchmarks.store import __main__ as command
from tests.benchmarks.store import earlier
from tests.benchmarks.store.databases import Databases, check_rows, server_process
from tests.benchmarks.store.registry import ENTRIES, Entry, on
from tests.benchmarks.store.report import BEGIN, END, RATIOS, Report, ratios
from tests.benchmarks.store.rounds import (
    FEWEST,
    MOST,
    Bench,
    Plan,
    WrongPackageError,
    describe,
    measure,
    measure_latency,
    prepared,
    warm_up,
)
from tests.benchmarks.store.stages import Stages
from tests.benchmarks.store.systems.base import Meter, StoreJob, WorkFailedError, server_seconds
from tests.postgres import PostgresServer

MACHINE = {"cpu": "C", "cores": 2, "memory_gib": 4, "kernel": "K", "load_before": 0.1}

MESSAGES = 100


def row(system: str, **medians: float) -> Row:
    """A row that was measured once."""
    samples = {name: [value] for name, value in medians.items()}
    return Row(system, f"<{system}>", "as it is.", {"x": "1"}, 100, samples=samples)


ROWS = {
    "hand": row("hand", per_s=3_000, cpu_us=100, server_us=200),
    "mqkit-before": row(
        "mqkit-before", per_s=700, relayed_per_s=500, cpu_us=1_000, relayed_cpu_us=1_300
    ),
    "mqkit": row(
        *["mqkit"], per_s=4_200, relayed_per_s=3_000, cpu_us=150, relayed_cpu_us=190, p50_ms=2.0
    ),
    "stage-no-store": row("stage-no-store", per_s=20_000, cpu_us=20),
    "stage-claim": row("stage-claim", per_s=9_000, cpu_us=60),
    "stage-insert": row("stage-insert", per_s=5_000, cpu_us=110),
    "mqkit-sqlite": row("mqkit-sqlite", per_s=2_500, cpu_us=300),
}


def report(missing: list[str] | None = None) -> Report:
    """What a run of those has found."""
    return Report(ROWS, MACHINE, "RabbitMQ 4.3.6", "15.1", "abcdef012", 1, "cmd", missing or [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--systems", "mqkit,hnad"], "no system 'hnad'; did you mean hand?"),
        (["--systems", ","], "--systems names no system"),
        (["--systems", "mqkit-before"], "system 'mqkit-before' needs an earlier commit"),
        (["--rounds", "0"], "--rounds takes 1 or more, not 0"),
        (["--messages", "150"], "--messages takes a multiple of 100, which a batch is of, not 150"),
        (["--messages", "-100"], "not -100"),
        (["--seconds", "0"], "--seconds takes more than 0"),
        (["--latency-seconds", "nan"], "--latency-seconds takes more than 0"),
        (["--before", "no-such"], "--before no-such: there is no such commit"),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: there is no folder nowhere"),
        (["--svg", "nowhere/x.svg"], "--svg nowhere/x.svg: there is no folder nowhere"),
        (["--into", "nowhere.md"], "--into nowhere.md: there is no such file"),
        (["--into", "README.md"], "<!-- bench-store:begin --> and"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_measured(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2, and the error says what is wrong."""
    assert command.main(arguments) == 2
    assert told in capsys.readouterr().err


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A typo in an option's name is no abbreviation of it."""
    with pytest.raises(SystemExit, match="2"):
        command.main(["--round", "1"])
    assert "unrecognized arguments: --round" in capsys.readouterr().err


def test_the_page_has_the_marks() -> None:
    """What `make bench-store` writes into has a place for it."""
    text = (ROOT / "docs/guides/benchmarks-store.md").read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1


def test_ratios_are_of_medians() -> None:
    """What was not measured has none."""
    found = ratios(ROWS)
    assert found == {"plain_to_hand": 1.4, "plain_to_before": 6.0}
    known = {entry.name for entry in ENTRIES}
    assert all({one, other} <= known for _, one, other, _ in RATIOS.values())


def test_the_report_tells_all_that_was_measured() -> None:
    """The page has a table for each database, the ratios, the stages, and what was left out."""
    text = report(["<mqkit-def>: no SyncTransaction"]).markdown({"postgres": "rates.svg"})
    assert text.startswith("**NOT MEASURED: <mqkit-def>: no SyncTransaction.**")
    assert "plain handlers 1.40 times the loop by hand; 6.0 times those of before" in text
    assert "### PostgreSQL\n\n![Messages in a second on PostgreSQL, by system](rates.svg)" in text
    assert "| <mqkit> | 4,200 | 3,000 | 150 | - | 190 |" in text
    assert "### SQLite\n\n| system | handled, acked /s | CPU µs a message |" in text
    assert "| <mqkit-sqlite> | 2,500 | 300 |" in text
    assert "### Latency at 100 messages a second" in text
    assert "no inbox and no outbox" in text
    assert "Before is commit abcdef0, run from its own files." in text
    assert "- <hand>: as it is. 100 messages a run." in text


def test_stages_are_differences() -> None:
    """Each is what its handler took more than the one before; the last line is all."""
    stages = Stages(ROWS).own()
    assert [stage.now for stage in stages] == [20, 40, 50, 40, 40, 190]
    assert [stage.before for stage in stages] == [None, None, None, None, 300, 1_300]
    assert Stages({"mqkit": ROWS["mqkit"]}).markdown() == []


def test_the_chart_leaves_out_what_was_not_measured() -> None:
    """A system with one figure has one bar, in that figure's colour and place."""
    rows = [ROWS["hand"], ROWS["mqkit"]]
    root = ET.fromstring(chart(rows, "a", command.SERIES, command.LEFT))  # noqa: S314 - our own
    bars = [each for each in root.iter() if each.tag.endswith("rect")][len(command.SERIES) :]
    colours = [colour for _, colour in command.SERIES.values()]
    assert [bar.attrib["fill"] for bar in bars] == [*colours, colours[1]]


def test_the_earlier_package_is_of_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the commit has, whatever is there now, and its folder goes."""
    monkeypatch.setattr(earlier, "ROOT", tmp_path)
    (tmp_path / "mqkit").mkdir()
    (tmp_path / "mqkit/__init__.py").write_text("OLD = True")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "old"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)  # noqa: S607 - any git
    (tmp_path / "mqkit/__init__.py").write_text("OLD = False")
    with earlier.earlier_package("HEAD") as folder:
        assert (folder / "mqkit/__init__.py").read_text() == "OLD = True"
    assert not folder.exists()
    with pytest.raises(ConfigurationError, match="--before HEAD~5: there is no such commit"):
        earlier.named("HEAD~5")


def test_a_system_of_before_runs_on_the_earlier_package(tmp_path: Path) -> None:
    """It imports what is in the tree, and where it would not, that is an error."""
    (before,) = (entry for entry in ENTRIES if entry.name == "mqkit-before")
    with pytest.raises(WrongPackageError, match="mqkit before: it has imported mqkit from"):
        describe(on(before, tmp_path, here=True))
    (tmp_path / "mqkit").symlink_to(ROOT / "mqkit")
    assert describe(on(before, tmp_path, here=True))[1] == ""


def test_a_meter_measures_from_the_first_handler_to_the_last_message() -> None:
    """It counts what is done, tells once that it is finished, and passes a failure on."""
    finished: list[bool] = []
    meter = Meter(StoreJob("", "", 300), lambda: finished.append(True))
    meter.began()
    meter.done(100)
    meter.began()
    assert not finished
    meter.done(200)
    assert finished == [True]
    assert meter.figures(300)["per_s"] > 0
    meter.failed("dead")
    with pytest.raises(WorkFailedError, match="dead"):
        meter.tell()


def test_processor_time_of_a_server_is_that_of_its_children_too() -> None:
    """What a process has started counts, while it runs and once it has ended."""
    if not Path("/proc").exists():
        pytest.skip("no /proc")
    before = server_seconds(os.getpid())
    spin = "import time\nwhile time.process_time() < 0.5: pass\nprint('spun', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while_it_runs = server_seconds(os.getpid())
    assert 0.4 < while_it_runs - before < 10
    # What has ended is told in ticks of 10 ms, what runs in nanoseconds.
    assert server_seconds(os.getpid()) > while_it_runs - 0.1


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_rows_that_are_missing_are_an_error(kind: str, postgres: PostgresServer) -> None:
    """What was lost, or done twice, is no figure."""
    with Databases(postgres).database(kind) as database:
        check_rows(database, "posting", 0)
        with pytest.raises(WorkError, match="posting: 0 rows where 5 messages were handled"):
            check_rows(database, "posting", 5)


PLAIN = {"mqkit", "mqkit-sqlite"}
BY_HAND = [entry for entry in ENTRIES if entry.group == "hand"]
OTHERS = [
    entry
    for entry in ENTRIES
    if entry.program == "mqkit_store" and not entry.is_before and entry.name not in PLAIN
]


QUICK = Plan(1, 1.0, MESSAGES, latency_seconds=0.5, quiet=0.0)


def _plain(name: str, broker: Broker, postgres: PostgresServer) -> tuple[Row, Entry, Bench]:
    (entry,) = (on(each, None, here=True) for each in ENTRIES if each.name == name)
    bench = Bench(Room(broker, broker.url), Databases(postgres))
    return Row(name, name, "", {}, MESSAGES), entry, bench


def _name(entry: Entry) -> str:
    return entry.name


@pytest.mark.parametrize("entry", BY_HAND, ids=_name)
def test_a_loop_by_hand_writes_all_three_rows(
    entry: Entry, mqkit_embedded: Broker, postgres: PostgresServer
) -> None:
    """Each message has its own row, one in the inbox and one in the outbox."""
    here = on(entry, None, here=True)
    bench = Bench(Room(mqkit_embedded, mqkit_embedded.url), Databases(postgres))
    with prepared(here, bench, MESSAGES) as one:
        told = run(here, "consume", *one.words())
        one.check()
        for table in ("hand_inbox", "hand_outbox"):
            check_rows(one.database, table, MESSAGES)
    assert told["per_s"] > 0
    assert ("server_us" in told) == (
        bool(server_process(postgres)) and not one.database.url.startswith("sqlite")
    )


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(PLAIN))
def test_a_round_of_plain_handlers_tells_their_figures(
    name: str, mqkit_embedded: Broker, postgres: PostgresServer
) -> None:
    """They are handled, relayed beside it and relayed alone, and the work is checked."""
    found, entry, bench = _plain(name, mqkit_embedded, postgres)
    measure(found, entry, bench, QUICK)
    assert {"per_s", "cpu_us", "relayed_per_s", "relayed_cpu_us"} <= set(found.samples)


@pytest.mark.timeout(300)
def test_latency_is_measured_at_a_rate(mqkit_embedded: Broker, postgres: PostgresServer) -> None:
    """Of what is published meanwhile, after the first part of it."""
    found, entry, bench = _plain("mqkit", mqkit_embedded, postgres)
    measure_latency(found, entry, bench, QUICK)
    assert 0 < found.samples["p50_ms"][0] <= found.samples["p99_ms"][0]


def test_the_unmeasured_round_finds_how_many_messages_to_measure_with(
    mqkit_embedded: Broker, postgres: PostgresServer
) -> None:
    """As many as take the seconds that were asked for, within bounds, and whole hundreds."""
    (entry,) = (on(each, None, here=True) for each in ENTRIES if each.name == "hand-bulk-sqlite")
    bench = Bench(Room(mqkit_embedded, mqkit_embedded.url), Databases(postgres))
    found = row(entry.name)
    warm_up(found, entry, bench, Plan(1, 0.001, 0))
    assert found.messages == FEWEST
    warm_up(found, entry, bench, Plan(1, 1_000_000.0, 0))
    assert found.messages == MOST
    warm_up(found, entry, bench, Plan(1, 1.0, MESSAGES))
    assert found.messages == MESSAGES


@pytest.mark.long
@pytest.mark.parametrize("entry", OTHERS, ids=_name)
def test_each_kind_of_handler_runs(
    entry: Entry, mqkit_embedded: Broker, postgres: PostgresServer
) -> None:
    """Each message has its effect once; of what a version has not, the reason is told."""
    here = on(entry, None, here=True)
    bench = Bench(Room(mqkit_embedded, mqkit_embedded.url), Databases(postgres))
    _, why = describe(here)
    if why:
        assert why.startswith("this version has no ")
        return
    with prepared(here, bench, MESSAGES) as one:
        one.publish()
        assert run(here, "consume", *one.words())["per_s"] > 0
        one.check()
