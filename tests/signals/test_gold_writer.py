"""Gold as it happens, from the bus and from a program: each snap in one part, none lost without a word."""

import asyncio
import errno
import inspect
import time

import pyarrow as pa
import pytest

from spymaster import GoldReader, GoldWriter
from spymaster.bus import Bus
from spymaster.errors import StorageError, UsageError
from spymaster.events import Stream
from spymaster.lake import gold
from spymaster.lake.gold import GOLD, LEVELS_SIGNALS, Footer
from spymaster.lake.layout import Tier, gold_files
from spymaster.signals import gold as written
from spymaster.signals.gold import SignalsWriter
from spymaster.signals.payload import document
from tests.lake.test_gold import at, seconds

ES = Stream("levels.signals", "ES")
JUDGED = Footer("SIM", "abc", "def")


def parts(root):
    """Return the seconds after noon of the snaps of each part, by name."""
    keys = gold_files(root / "lake", LEVELS_SIGNALS)
    tables = [gold.read(Tier.GOLD.of(root / "lake") / key) for key in keys]
    return [seconds(table) for table in tables]


def writer(root, **more):
    more = {"buffer_limit": 1_000_000, "flush_interval_seconds": 60.0} | more
    return SignalsWriter(root / "lake", **more)


class ReadBus(Bus):
    """Knows what its readers have not taken yet."""

    def subscribe(self, *given, **more):
        self.readers_queue = super().subscribe(*given, **more)
        return self.readers_queue


async def published(bus, batches):
    """Publish each once those before were taken."""
    for rows in batches:
        bus.publish(Stream("levels.signals", rows.column("underlying")[0].as_py()), [rows])
        while bus.readers_queue.waiting_bytes:
            await asyncio.sleep(0.002)


def following(root, batches, then=None, **more):
    """Write what is published, and return the writer after its end."""

    async def run():
        bus, by = ReadBus(), writer(root, **more)
        await by.start(bus)
        await published(bus, batches)
        if then is not None:
            await then(bus, by)
        await by.stop()
        return by

    return asyncio.run(run())


# From the bus


def test_what_is_published_becomes_parts_of_a_minute_and_the_end_cuts_the_last(tmp_path):
    by = following(tmp_path, at(1, 59, 60, 61, 121), footer=JUDGED)

    assert parts(tmp_path) == [[1, 59], [60, 61], [121]]
    assert (by.snaps, by.rows, by.parts, by.waiting_rows, by.abandoned_rows) == (5, 10, 3, 0, 0)
    assert by.flushed_ns == at(121)[0].column("ts_event_ns")[0].as_py()
    assert time.monotonic() - by.flushed_s < 60
    (key, *_) = gold_files(tmp_path / "lake", LEVELS_SIGNALS)
    assert gold.read_footer(Tier.GOLD.of(tmp_path / "lake") / key) == JUDGED


def test_a_part_is_there_as_soon_as_it_is_finished(tmp_path):
    async def waits(bus, by):
        for _ in range(200):
            if by.parts:
                break
            await asyncio.sleep(0.01)
        assert parts(tmp_path) == [[1, 2]]
        assert by.waiting_rows == 2

    following(tmp_path, at(1, 2, 60), waits)


def test_underlyings_have_parts_of_their_own(tmp_path):
    following(tmp_path, [*at(1), *at(2, underlying="SPY"), *at(3)])

    assert sorted(parts(tmp_path)) == [[1, 3], [2]]


def test_rows_of_other_streams_are_not_waited_for(tmp_path):
    async def others(bus, by):
        bus.publish(Stream("futures.trades", "ES"), [pa.record_batch({"ts_event_ns": [1]})])

    assert following(tmp_path, at(1), others).rows == 2


def test_what_the_bus_skipped_spoils_its_part_and_is_told(tmp_path):
    lines = []

    async def run():
        bus, by = ReadBus(max_bytes=1), writer(tmp_path, tell=lines.append)  # the newest batch alone waits
        await by.start(bus)
        await published(bus, at(1, 60, 61))
        bus.publish(ES, at(62))
        bus.publish(ES, at(63))  # before it was read: the one before is skipped
        await published(bus, at(64, 120, 121))
        await by.stop()
        return by

    by = asyncio.run(run())
    assert parts(tmp_path) == [[1], [120, 121]]
    assert by.abandoned_rows == 2 * 5  # 60 to 64
    assert any("are in no part of Gold: they were published faster than they were written" in line for line in lines)
    assert all("Next: " in line for line in lines)


def test_what_is_made_again_after_a_kill_finds_its_parts_there(tmp_path):
    batches = at(1, 59, 60, 61)
    following(tmp_path, batches[:2])
    before = parts(tmp_path)
    again = following(tmp_path, batches)

    assert parts(tmp_path) == [*before, [60, 61]]
    assert again.abandoned_rows == 0


def test_other_rows_of_a_part_that_is_there_are_told_and_it_stays(tmp_path):
    lines = []
    following(tmp_path, at(1, 2))
    again = following(tmp_path, at(1, 3), tell=lines.append)

    assert parts(tmp_path) == [[1, 2]]
    assert again.abandoned_rows == 4
    assert "holds other rows than were judged now" in lines[0]


def test_rows_of_another_form_are_told_and_end_nothing(tmp_path):
    lines = []

    async def other(bus, by):
        bus.publish(ES, [at(2)[0].select(GOLD.names[:9])])
        await published(bus, at(3))

    by = following(tmp_path, at(1), other, tell=lines.append)
    assert parts(tmp_path) == [[1, 3]]
    assert by.abandoned_rows == 2
    assert "of another form" in lines[0]


# A disk that refuses


class Disk:
    """Refuses while it is told to."""

    def __init__(self, monkeypatch):
        self.refuses, self._publish = True, gold.publish
        monkeypatch.setattr(written, "publish", self)

    def __call__(self, *given):
        if self.refuses:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._publish(*given)


def test_what_the_disk_refuses_is_tried_again_and_told(tmp_path, monkeypatch):
    disk, lines = Disk(monkeypatch), []

    async def mended(bus, by):
        await asyncio.sleep(0.05)
        assert by.waiting_rows == 8
        assert len(lines) == 2  # once a part, and not once a snap
        disk.refuses = False

    by = following(tmp_path, at(1, 60, 60.5, 120), mended, tell=lines.append)
    assert parts(tmp_path) == [[1], [60, 60.5], [120]]
    assert by.abandoned_rows == 0
    assert "No space left" in lines[0]
    assert "It is tried again" in lines[0]


def test_of_too_many_refused_parts_the_oldest_is_abandoned_and_told(tmp_path, monkeypatch):
    disk, lines = Disk(monkeypatch), []
    monkeypatch.setattr(written, "MOST_WAITING", 2)

    async def mended(bus, by):
        await asyncio.sleep(0.05)
        disk.refuses = False

    by = following(tmp_path, at(1, 60, 120, 180), mended, tell=lines.append)
    assert parts(tmp_path) == [[60], [120], [180]]
    assert by.abandoned_rows == 2
    assert any("the disk refused for too long" in line for line in lines)


def test_a_stop_that_the_disk_refuses_says_so(tmp_path, monkeypatch):
    Disk(monkeypatch)
    with pytest.raises(StorageError, match=r"was not written.*Next: check the disk"):
        following(tmp_path, at(1))


# From a program


def run(work):
    return asyncio.run(work())


def payload(second, price=6845.0):
    level = {"id": "VWAP", "price": price, "signal": "BREAK", "barrier": {"state": "WALL"}}
    return {"ts": (1_766_404_800 + second) * 1_000, "es": {"spot": 6845.25, "bid": 6845.0, "ask": 6845.5},
            "levels": [level, {**level, "id": "PM_HIGH", "price": price + 5}]}  # fmt: skip


def test_the_first_documents_call_it_like_that():
    assert list(inspect.signature(GoldWriter).parameters) == [
        "bus", "data_root", "buffer_limit", "flush_interval_seconds", "use_s3"
    ]  # fmt: skip
    defaults = [one.default for one in inspect.signature(GoldWriter).parameters.values()]
    assert defaults == [None, None, 500, 10.0, None]


def test_a_payload_is_a_row_a_level_and_comes_back(tmp_path):
    async def work():
        by = GoldWriter(data_root=str(tmp_path / "lake"))
        assert by.get_gold_path() == str(tmp_path / "lake" / "gold")
        await by.start()
        await by.write_level_signals(payload(1))
        await by.write_level_signals(payload(12))
        await by.stop()

    run(work)
    assert parts(tmp_path) == [[1], [12]]
    rows = GoldReader(tmp_path / "lake").read_level_signals()
    assert rows["level_id"].tolist() == ["VWAP", "PM_HIGH"] * 2
    assert rows["barrier_state"].tolist() == ["WALL"] * 4


def test_what_was_flushed_is_there_and_what_was_not_is_after_the_stop(tmp_path):
    async def work():
        by = GoldWriter(data_root=str(tmp_path / "lake"))
        await by.write_level_signals(payload(1))
        assert parts(tmp_path) == []
        await by.flush()
        assert parts(tmp_path) == [[1]]
        await by.write_level_signals(payload(2))
        await by.stop()

    run(work)
    assert parts(tmp_path) == [[1], [2]]


def test_a_part_of_a_program_ends_after_500_rows_or_10_s(tmp_path):
    async def work():
        by = GoldWriter(data_root=str(tmp_path / "lake"))
        for n in range(251):
            await by.write_level_signals({**payload(0), "ts": 1_766_404_800_000 + 10 * n})
        await by.write_level_signals(payload(10))
        await by.stop()

    run(work)
    assert [len(found) for found in parts(tmp_path)] == [250, 1, 1]


def test_a_payload_that_does_not_fit_leaves_the_others(tmp_path):
    async def work():
        by = GoldWriter(data_root=str(tmp_path / "lake"))
        await by.write_level_signals(payload(1))
        with pytest.raises(UsageError, match="is not known"):
            await by.write_level_signals({**payload(2), "levels": [{"id": "X", "price": 1.0, "colour": "red"}]})
        await by.write_level_signals({**payload(3), "levels": []})
        await by.stop()

    run(work)
    assert parts(tmp_path) == [[1]]


def test_it_follows_the_bus_of_its_constructor(tmp_path):
    async def work():
        bus = ReadBus()
        by = GoldWriter(bus, str(tmp_path / "lake"))
        await by.start()
        await by.start()
        await published(bus, at(1))
        bus.close()
        await by.stop()

    run(work)
    assert parts(tmp_path) == [[1]]


def test_rows_that_are_in_no_part_are_an_error_at_the_end(tmp_path):
    async def work(second_row):
        by = GoldWriter(data_root=str(tmp_path / "lake"))
        await by.write_level_signals(payload(1, second_row))
        await by.stop()

    run(lambda: work(6845.0))
    with pytest.raises(UsageError, match="holds other rows"):
        run(lambda: work(6846.0))


@pytest.mark.parametrize(("arguments", "line"), [
    ({"use_s3": True}, "object storage"),
    ({"buffer_limit": 0}, "has nothing in it"),
    ({"flush_interval_seconds": 0}, "has nothing in it"),
])  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, arguments, line):
    with pytest.raises(UsageError, match=line):
        GoldWriter(data_root=str(tmp_path / "lake"), **arguments)


def test_a_bus_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"is no spymaster\.bus\.Bus"):
        run(lambda: GoldWriter(data_root=str(tmp_path / "lake")).start("nats://"))


def test_the_loop_is_never_held_up(tmp_path):
    """Encoding and syncing are a thread's; a minute of 16 levels a snap is the largest part of a daemon."""
    batches = at(*(n / 4 for n in range(480)), levels=16)

    async def work():
        bus, by, longest = Bus(), writer(tmp_path), 0.0
        await by.start(bus)
        for rows in batches:
            bus.publish(ES, [rows])
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)
        await by.stop()
        return longest

    assert min(asyncio.run(work()) for _ in range(3)) < 0.05
    assert sum(map(len, parts(tmp_path))) == 480


def test_rows_of_the_bus_and_their_document_are_the_same_part(tmp_path):
    async def program():
        by = GoldWriter(data_root=str(tmp_path / "other" / "lake"), flush_interval_seconds=60, buffer_limit=10_000)
        for rows in at(1, 2):
            await by.write_level_signals(document(rows))
        await by.stop()

    following(tmp_path, at(1, 2))
    run(program)
    (one,), (other,) = (
        [path.read_bytes() for path in root.rglob("*.parquet")] for root in (tmp_path / "lake", tmp_path / "other")
    )
    assert one == other
