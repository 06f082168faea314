"""Massive's frames many at a time: the fast way gives the rows of the slow one, and an odd frame costs few others."""

import random
from typing import Any

import pytest

from spymaster.normalize import massive_frames
from spymaster.normalize.massive_frames import MassiveFrames
from spymaster.normalize.normalized import Normalized
from tests.normalize.massive_fuzz import OPTION_TRADE, STOCK_QUOTE, STOCK_TRADE
from tests.normalize.test_massive import RECEIVED, encoded, read, rows


def test_an_odd_frame_takes_few_others_the_slow_way() -> None:
    class Watched(MassiveFrames):
        def _read_each(self, messages: Any, done: Normalized) -> None:
            slow.extend(messages)
            super()._read_each(messages, done)

    for odd in ({"pt": None}, {"x": "four"}):
        frames = [encoded([STOCK_TRADE | {"q": number}]) for number in range(200)]
        frames[77] = encoded([STOCK_TRADE | {"q": 77} | odd])
        slow: list[Any] = []
        done = Watched(cluster="stocks").normalize([(frame, RECEIVED) for frame in frames])

        unreadable = [] if "pt" in odd else [77]
        assert [row["seq"] for row in rows(done)] == [number for number in range(200) if number not in unreadable]
        assert [(u.data, u.byte) for u in done.unreadable] == [
            (frames[at], sum(map(len, frames[:at]))) for at in unreadable
        ]
        assert 1 <= len(slow) <= 8
        ((schema, batch),) = done.batches
        assert batch.schema.equals(schema.delivered, check_metadata=True)


@pytest.mark.parametrize("cluster", ["stocks", "options"])
def test_many_frames_of_many_symbols_give_the_rows_of_the_slow_way(cluster: str) -> None:
    rng = random.Random(5)
    kinds = [STOCK_TRADE, STOCK_QUOTE] if cluster == "stocks" else [OPTION_TRADE]

    def event(number: int) -> dict[str, Any]:
        kind = rng.choice(kinds)
        sent = {key: value for key, value in kind.items() if rng.random() < 0.8 or key in ("ev", "sym", "t")}
        symbol = f"O:SPY251216C{rng.randrange(10**8):08d}" if cluster == "options" else f"S{rng.randrange(300)}"
        return sent | {"sym": symbol, "c": 7 if kind is STOCK_QUOTE else list(range(number % 4))}

    frames = [encoded([event(number) for number in range(rng.randrange(30))]) for _ in range(300)]
    messages = [(frame, RECEIVED + number) for number, frame in enumerate(frames)]
    assert sum(map(len, frames)) > 4 * massive_frames._BLOCK_BYTES
    fast, ignored = MassiveFrames(cluster=cluster)._read_together(messages)
    by_value = Normalized([], [])
    MassiveFrames(cluster=cluster)._read_each(messages, by_value)

    assert ignored == {}
    assert {schema.name: batch for schema, batch in fast} == {schema.name: batch for schema, batch in by_value.batches}
    for _, batch in fast:
        batch.validate(full=True)


@pytest.mark.parametrize("symbol", ["", "A" * 65, "\u00e9" * 33, "O:SPY251216C00680000"])
def test_a_symbol_that_is_no_ticker_is_refused_among_many(symbol: str) -> None:
    good = encoded([STOCK_TRADE | {"sym": f"S{number}"} for number in range(9)])
    bad = encoded([STOCK_TRADE, STOCK_TRADE | {"sym": symbol}])
    done = read(good, bad, good)

    assert [unreadable.data for unreadable in done.unreadable] == [bad]
    assert len(rows(done)) == 18
