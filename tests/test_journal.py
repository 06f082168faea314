"""The journal: its names, its lines, what it leaves out, and that nobody waits for it."""

import ast
import asyncio
import json
import re
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster import clock, journal, settings
from spymaster.daemon import Daemon
from spymaster.errors import FeedLostError, UsageError
from spymaster.feeds.feed import Lost
from spymaster.journal import EVENTS, Journal, LogFile
from spymaster.recording.change import Change
from spymaster.recording.health import Health
from tests.live_feed import LiveDelivery, LiveFeed
from tests.long.journal import SECRETS, run
from tests.normalize.dbn_bytes import trade
from tests.small_disk import small_disk

PACKAGE = Path(journal.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "journal.md"
LINE = re.compile(r"(?P<timestamp>[-\d]{10}T[:\d]{8}\.\d{6}Z) (?P<level>\w+) +(?P<event>[a-z._]+)(?P<fields>.*)")
FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^" =]+)')


def written(*events, form="text", secrets=()):
    """Return the lines of events, each a name and its fields."""
    lines = []
    kept = Journal(lines.append, form, secrets)
    for name, fields in events:
        kept.event(name, **fields)
    assert kept.close()
    return lines


def read(line):
    """Return a line of text as JSON has it."""
    found = LINE.fullmatch(line)
    fields = {name: json.loads(value) if value[0] == '"' else value for name, value in FIELD.findall(found["fields"])}
    assert FIELD.sub("", found["fields"]) == ""
    return found.groupdict() | fields


def alarm(text="", about="disk"):
    return "alarm.raised", {"about": about, "text": text}


def calls():
    """Return the name and the fields of every event in the package, however its caller is called."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", None) not in ("event", "_event"):
                continue
            name = node.args[0]
            fields = {keyword.arg for keyword in node.keywords}
            if path.name == "told.py":
                fields |= {"origin", "capture_id"}
            if isinstance(name, ast.Constant):
                yield name.value, fields
            else:
                assert path.name == "told.py", f"{path}:{node.lineno} hides the name of an event"


def test_every_event_that_is_told_is_listed_with_its_fields_and_every_listed_one_is_told():
    told = list(calls())

    assert {name for name, _ in told} == set(EVENTS) - {"journal.lost"}  # which the journal tells itself
    for name, fields in told:
        assert fields == set(EVENTS[name].fields), name
    for event in EVENTS.values():
        assert not {"timestamp", "level", "event", "omitted"} & set(event.fields)
        assert event.about is None or event.about in event.fields


def test_the_document_lists_every_event():
    table = ["| event | level | when | fields |", "|---|---|---|---|"]
    for name, event in EVENTS.items():
        table.append(f"| `{name}` | {event.level} | {event.meaning} | {', '.join(f'`{f}`' for f in event.fields)} |")

    assert "\n".join(table) in DOCUMENT.read_text(), f"{DOCUMENT} is behind. Its table is to be:\n" + "\n".join(table)


@given(text=st.text(), form=st.sampled_from(["text", "json"]))
def test_whatever_a_vendor_sends_an_event_is_one_line_of_printing_ascii_that_gives_it_back(text, form):
    (line,) = written(alarm(text), form=form)

    assert re.fullmatch(r"[ -~]+", line)
    back = read(line) if form == "text" else json.loads(line)
    assert back["text"] == text.replace("\x7f", "\\x7f")


def test_a_line_has_time_level_and_event_before_its_fields():
    ended = {"state": "ok", "before": "warn", "text": None}
    (text,), (line,) = written(("disk.level", ended)), written(("disk.level", ended), form="json")

    assert re.fullmatch(r"\S+ warning disk\.level state=ok before=warn", text)
    assert list(json.loads(line).items())[1:] == [("level", "warning"), ("event", "disk.level"), *ended.items()]
    assert abs(time.time() - time.mktime(time.strptime(text[:19] + "UTC", "%Y-%m-%dT%H:%M:%S%Z")) + time.timezone) < 60


KEY = 'key "1/2"'


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "said", [KEY, "key%20%221%2F2%22", 'key \\"1/2\\"', {"a": [KEY]}, {KEY: 1}, OSError(KEY)], ids=str
)
def test_no_line_holds_a_secret_however_it_is_wrapped(form, said):
    (line,) = written(alarm(said), form=form, secrets=[f"{KEY} "])

    assert "***" in line
    assert "1/2" not in line
    assert "1%2F2" not in line


def test_a_secret_is_gone_before_a_long_text_is_cut():
    (line,) = written(alarm("x" * (journal.MAX_CHARACTERS - 3) + "topsecret" + "y" * 100), secrets=["topsecret"])

    assert "top" not in line
    assert line.endswith('xxx***... and 100 characters more"')


def test_an_empty_secret_hides_nothing():
    (line,) = written(alarm("sound"), secrets=["", " "])

    assert line.endswith("text=sound")


def test_what_flaps_does_not_flood_and_its_last_state_is_told(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr(clock, "monotonic_s", lambda: now_s)
    lines = []
    kept = Journal(lines.append)
    health = Health(Change(), journal=kept)

    def until(count):
        deadline = time.time() + 10
        while len(lines) < count:
            assert time.time() < deadline, lines
            time.sleep(0.01)

    for _ in range(50):
        health.alarm("bronze", "refused")
        health.mended("bronze")
    health.alarm("other", "is told meanwhile")
    until(7)
    now_s += 61
    until(8)
    kept.close()

    assert [line.split()[2] for line in lines] == [
        *["alarm.raised", "alarm.mended"] * 3, "alarm.raised", "alarm.mended"
    ]  # fmt: skip
    assert read(lines[6])["about"] == "other"
    assert read(lines[7]) == read(lines[7]) | {"about": "bronze", "omitted": "93"}


def test_what_is_held_back_is_told_at_the_end_too():
    lines = written(*(alarm(str(number)) for number in range(20)))

    assert [read(line)["text"] for line in lines] == ["0", "1", "2", "3", "4", "5", "19"]
    assert read(lines[-1])["omitted"] == "13"


def test_of_more_things_than_are_counted_the_oldest_is_told_first(monkeypatch):
    monkeypatch.setattr(journal, "MAX_THINGS", 2)
    flapping = [alarm(str(number), "first") for number in range(8)]

    lines = written(*flapping, alarm(about="second"), alarm(about="third"), alarm(about="fourth"))

    about = ["first"] * 6 + ["second", "first", "third", "fourth"]  # the seventh once `third` needs its place
    assert [read(line)["about"] for line in lines] == about


def test_nobody_waits_for_a_reader_that_has_stopped_and_what_is_lost_is_counted():
    lines, may_go_on = [], threading.Event()

    def paused(line):
        may_go_on.wait(0 if lines else 5)
        lines.append(line)

    kept = Journal(paused)
    began = time.monotonic()
    for number in range(journal.MAX_WAITING + 501):
        kept.event("alarm.raised", about=number, text="")
    took_s = time.monotonic() - began
    may_go_on.set()
    assert kept.close()

    assert took_s < 1
    (lost,) = [read(line) for line in lines if "journal.lost" in line]
    assert int(lost["lines"]) + len(lines) - 1 == journal.MAX_WAITING + 501


def test_a_writer_that_hangs_holds_up_no_end(monkeypatch):
    monkeypatch.setattr(journal, "CLOSE_S", 0.1)
    may_go_on = threading.Event()
    kept = Journal(lambda line: may_go_on.wait(20))
    kept.event("alarm.mended", about="disk")

    assert not kept.close()
    may_go_on.set()


def test_without_a_writer_nothing_is_kept():
    before = threading.active_count()
    kept = Journal()
    kept.event("alarm.mended", about="disk")

    assert kept.close()
    assert threading.active_count() == before


def to_file(path, lines):
    """Write alarms with texts to a file."""
    file = LogFile(path)
    kept = Journal(file.write)
    for number, text in enumerate(lines):
        kept.event("alarm.raised", about=number, text=text)
    assert kept.close()
    file.close()


def test_a_file_is_appended_to_and_rotated_so_that_it_never_takes_more_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FILE_BYTES", 1_000)
    for _ in range(3):
        to_file(tmp_path / "journal", ["x" * 100] * 20)

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["journal", *(f"journal.{number}" for number in range(1, journal.FILES))]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    kept = [read(line)["about"] for name in reversed(files) for line in (tmp_path / name).read_text().splitlines()]
    assert len(kept) > 20
    assert kept == [str(number % 20) for number in range(60)][-len(kept) :]


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path):
    with small_disk(tmp_path / "disk", 1) as disk:
        path = disk.root / "journal"
        file = LogFile(path)
        kept = Journal(file.write)
        kept.event("alarm.raised", about="before", text="")
        _until(lambda: path.read_text().count("\n") == 1)
        disk.leave(0)
        for number in range(200):
            kept.event("alarm.raised", about=number, text="x" * 100)
        _until(kept._queue.empty)
        time.sleep(0.2)
        disk.free()
        kept.event("alarm.raised", about="after", text="")
        assert kept.close()
        file.close()
        lines = [read(line) for line in path.read_text().splitlines()]

    assert (lines[0]["about"], lines[-2]["about"], lines[-1]["event"]) == ("before", "after", "journal.lost")
    assert 100 < int(lines[-1]["lines"]) <= 200
    assert 200 <= int(lines[-1]["lines"]) + len(lines) - 3 <= 202


def _until(met):
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["none/journal", "."])
def test_a_file_that_cannot_be_written_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UsageError, match="Nothing was started. Next: ") as refused:
        LogFile(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_connection_that_is_lost_and_the_next_one_are_told_in_their_order(tmp_path):
    lines = []
    kept = Journal(lines.append)
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    first = LiveDelivery([[trade()]], FeedLostError("disconnect", "silent for 10 s"))
    second = LiveDelivery([[trade()]], after=Lost("disconnect", "silent for 10 s"))

    asyncio.run(Daemon(loaded, [], 1, feeds=[("live", LiveFeed(first, second))], journal=kept).run())
    kept.close()

    told = [read(line) for line in lines]
    assert [event["event"] for event in told if event["event"].startswith(("capture", "feed", "gap"))] == [
        "capture.begun", "feed.lost", "capture.ended",
        "capture.begun", "feed.reconnected", *["gap.recorded"] * 3, "capture.ended",
    ]  # fmt: skip
    (lost,), (gap, *_) = [[event for event in told if event["event"] == name] for name in ("feed.lost", "gap.recorded")]
    assert (lost["cause"], lost["evidence"], gap["cause"]) == ("disconnect", "silent for 10 s", "disconnect")
    assert "rows" not in gap  # nobody knows how many


def test_a_day_is_summed_up_when_the_date_changes_and_at_the_end(tmp_path, monkeypatch):
    day_ns = 20_000 * clock.NS_PER_DAY
    now_ns = day_ns
    monkeypatch.setattr("spymaster.recording.daily.LOOK_S", 0.01)
    lines = []
    kept = Journal(lines.append)

    async def days():
        nonlocal now_ns
        loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
        feed = LiveFeed(LiveDelivery([[trade()] * 3], "silent"))
        daemon = Daemon(loaded, [], 1, feeds=[("live", feed)], journal=kept)
        monkeypatch.setattr(clock, "utc_now_ns", lambda: now_ns)
        seen = daemon.bus.subscribe()
        running = asyncio.create_task(daemon.run())
        while (await anext(seen)).stream.schema != "futures.trades":
            pass
        for _ in range(2):
            now_ns += clock.NS_PER_DAY
            await asyncio.sleep(0.2)
            now_ns -= clock.NS_PER_SECOND  # into the day before, which is told once
            await asyncio.sleep(0.1)
            now_ns += clock.NS_PER_SECOND
        daemon.stop()
        await running

    asyncio.run(days())
    kept.close()

    told = [read(line) for line in lines if "day.summary" in line]
    assert [each["date"] for each in told] == ["2024-10-04", "2024-10-05", "2024-10-06"]
    assert [("futures.trades/ES:3" in each["rows"]) for each in told] == [True, False, False]
    assert float(told[0]["longest_sync_ms"]) > 0


@pytest.mark.parametrize(("form", "in_file"), [("text", False), ("json", True)])
def test_a_run_with_a_bad_message_a_full_disk_and_sigterm_can_be_followed_and_holds_no_secret(tmp_path, form, in_file):
    done = run(tmp_path, 1, form=form, to_file=in_file)

    events = [read(line) if form == "text" else json.loads(line) for line in done.lines]
    assert done.code == 1, done.summary
    assert all(EVENTS[event["event"]].level == event["level"] for event in events)
    assert all(before["timestamp"] <= after["timestamp"] for before, after in pairwise(events))
    for secret in SECRETS.values():
        assert secret not in "\n".join(done.lines)
    assert "***.dbn" in "\n".join(done.lines)

    def at(name, **fields):
        """Return where the first such event stands."""
        return next(
            number
            for number, event in enumerate(events)
            if event["event"] == name and all(str(value) in str(event.get(key)) for key, value in fields.items())
        )

    story = [
        at("run.started"),
        at("recovery.found", rows=0),
        at("recording.began"),
        at("capture.begun", origin="***.dbn"),
        at("quarantine.began", origin="***.dbn"),
        at("source.refused", reason="truncated"),
        at("capture.ended", origin="***.dbn", unreadable=1),
        at("disk.level", state="ingest_stopped", text="Next: free space there"),
        at("gap.recorded", cause="disk_full"),
        at("run.stopping", reason="SIGTERM"),
        at("capture.ended", origin="sim:", reason="given up"),
        at("run.drained", waiting=0),
        at("day.summary"),
        at("run.ended"),
    ]
    assert story == sorted(story)
    assert at("source.refused", origin="***.csv") < at("disk.level")
    assert story[-1] == len(events) - 1
    given_up = sum(int(event["rows"]) for event in events if event["event"] == "gap.recorded")
    assert given_up == sum(capture["given_up"] for capture in done.summary["captures"]) > 0
    if in_file:
        assert "warning: the log's disk is full" in done.stderr
    else:
        assert len(events) == len(done.stderr.splitlines())
