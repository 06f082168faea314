"""Option quotes of a live connection: every one of a burst of frames is in the log, once and in its order."""

import asyncio
import random

import pytest

from spymaster import settings
from spymaster.bus import Published
from spymaster.daemon import Daemon
from spymaster.events.encoding import MassiveFrames
from spymaster.feeds.day_files import FlatFileFeed
from spymaster.proof.verify import verify
from tests.live_feed import LiveDelivery, LiveFeed
from tests.normalize.massive_fuzz import LINES, OPTION_QUOTE, OPTION_TRADE
from tests.normalize.test_massive import encoded
from tests.stored import stored

EVENTS, FRAMES = 20, 1_000


def test_every_quote_of_a_thousand_frames_is_in_the_log_with_nothing_dropped(tmp_path):
    rng = random.Random(1)
    quotes = [
        OPTION_QUOTE | {"q": number, "bp": 9.9 if number % 100 == 0 else 9.7, "sym": f"O:SPY241220P{number % 700:08d}"}
        for number in range(EVENTS * FRAMES)
    ]
    frames = [encoded(quotes[at : at + EVENTS]) for at in range(0, len(quotes), EVENTS)]
    frames.append(encoded([OPTION_TRADE]))
    bursts = []
    while frames:
        count = rng.choice((1, 1, 2, 300))
        bursts.append(frames[:count])
        del frames[:count]
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    feed = LiveFeed(LiveDelivery(bursts, encoding=MassiveFrames("options", "SPY")))
    daemon = Daemon(loaded, [], 0, feeds=[("live", feed)])

    async def published() -> list[int]:
        reader = daemon.bus.subscribe()
        running = asyncio.create_task(daemon.run())
        seen = []
        async for some in reader:  # of what is durable in the log
            assert isinstance(some, Published)
            if some.stream.schema == "options.quotes":
                seen += some.batch["seq"].to_pylist()
        await running
        return seen

    numbers = list(range(len(quotes)))
    assert asyncio.run(published()) == numbers
    (summary,) = daemon.summaries
    assert summary.rows == {"options.quotes": len(quotes), "options.trades": 1}
    assert (summary.complete, summary.given_up, daemon.bus.dropped_rows_ever) == (True, 0, 0)
    assert summary.odd == {"crossed quote": len(quotes) // 100}
    rows = stored(tmp_path / "lake", "options.quotes")
    assert [(row["seq"], row["capture_seq"]) for row in rows] == [(number, number) for number in numbers]
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []


GOOD, UNREAD = "O:SPY241220P00720000", "O:SPY241399P00720000"


def record(tmp_path, feed):
    loaded = settings.load(wal_root=tmp_path / "wal", data_root=tmp_path / "lake")
    daemon = Daemon(loaded, [], 0, feeds=[("one", feed)])
    asyncio.run(daemon.run())
    (summary,) = daemon.summaries
    assert summary.complete
    assert summary.odd == {"option whose symbol does not read": 1}
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []
    return {row["option_symbol"]: row["underlying"] for row in stored(tmp_path / "lake", "options.quotes")}


def test_an_option_whose_symbol_does_not_read_is_proven_in_the_stream_that_was_subscribed(tmp_path):
    frame = encoded([OPTION_QUOTE | {"sym": symbol} for symbol in (GOOD, UNREAD)])
    feed = LiveFeed(LiveDelivery([[frame]], encoding=MassiveFrames("options", "SPY")))

    assert record(tmp_path, feed) == {GOOD: "SPY", UNREAD: "SPY"}


@pytest.mark.parametrize(
    "symbols", [(GOOD, UNREAD), (UNREAD, GOOD), (UNREAD,), (GOOD, "O:SPY"), ("O:251220P00720000",)]
)
def test_an_option_whose_symbol_does_not_read_is_proven_in_a_day_file(tmp_path, symbols):
    header, line, _ = LINES["options.quotes"]
    path = tmp_path / "day.csv"
    path.write_text("".join(f"{text}\n" for text in [header, *(line.replace(GOOD, symbol) for symbol in symbols)]))

    assert record(tmp_path, FlatFileFeed(str(path))) == {
        symbol: "SPY" if symbol == GOOD else symbol for symbol in symbols
    }
