"""Massive's frames many at a time: plain ones are scanned, give the rows of the slow way; an odd one costs no other."""

import importlib.util
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster.events.encoding import MassiveFrames
from spymaster.normalize.massive import frame_scanner
from spymaster.normalize.massive.frames import GROUP_BYTES, FrameNormalizer
from spymaster.normalize.massive.values import Part
from spymaster.normalize.normalizer import Message, Normalized
from tests.normalize.massive_fuzz import OPTION_QUOTE, OPTION_TRADE, STOCK_QUOTE, STOCK_TRADE, frame_reader
from tests.normalize.test_massive import RECEIVED, encoded, read, rows
from tests.sim_recording import Recorded


class Watched(FrameNormalizer):
    """Tells which frames went the slow way."""

    def __init__(self, cluster: Any = "stocks") -> None:
        super().__init__(MassiveFrames(cluster, "ALL"), origin="massive")
        self.slow: list[bytes] = []

    def _read_odd(self, frame: bytes, number: int) -> dict[str, Part]:
        self.slow.append(frame)
        return super()._read_odd(frame, number)


def slow_way(messages: list[Message], cluster: str = "stocks") -> Normalized:
    normalizer = frame_reader(cluster)
    normalizer._plain = None
    return normalizer.normalize(messages)


def both_ways(*frames: bytes, cluster: str = "stocks", live: bool = True) -> Normalized:
    """Return what frames give, the same by both ways."""
    messages = [(frame, RECEIVED + number if live else None) for number, frame in enumerate(frames)]
    done = frame_reader(cluster).normalize(messages)
    by_value = slow_way(messages, cluster)
    assert done == by_value
    assert repr(rows(done)) == repr(rows(by_value))  # which tells -0.0 from 0.0
    return done


@pytest.mark.parametrize("odd", [{"pt": None}, {"x": "four"}])
def test_an_odd_frame_alone_goes_the_slow_way_and_its_rows_keep_their_place(odd: dict[str, Any]) -> None:
    frames = [encoded([STOCK_TRADE | {"q": number}]) for number in range(200)]
    frames[77] = encoded([STOCK_TRADE | {"q": 77} | odd])
    normalizer = Watched()
    done = normalizer.normalize([(frame, RECEIVED + number) for number, frame in enumerate(frames)])

    kept = [number for number in range(200) if "pt" in odd or number != 77]
    assert [row["seq"] for row in rows(done)] == kept
    assert [row["ts_local_ns"] for row in rows(done)] == [RECEIVED + number for number in kept]
    unreadable = [] if "pt" in odd else [(frames[77], sum(map(len, frames[:77])))]
    assert [(u.data, u.byte) for u in done.unreadable] == unreadable
    assert normalizer.slow == [frames[77]]
    ((schema, batch),) = done.batches
    assert batch.schema.equals(schema.delivered, check_metadata=True)


@pytest.mark.parametrize("cluster", ["stocks", "options"])
def test_many_frames_of_many_symbols_give_the_rows_of_the_slow_way(cluster: str) -> None:
    rng = random.Random(5)
    kinds = [STOCK_TRADE, STOCK_QUOTE] if cluster == "stocks" else [OPTION_TRADE, OPTION_QUOTE]

    def event(number: int) -> dict[str, Any]:
        kind = rng.choice(kinds)
        sent = {key: value for key, value in kind.items() if rng.random() < 0.8 or key in ("ev", "sym", "t")}
        symbol = f"O:SPY251216C{rng.randrange(10**8):08d}" if cluster == "options" else f"S{rng.randrange(300)}"
        return sent | {"sym": symbol, "c": 7 if kind is STOCK_QUOTE else list(range(number % 4))}

    frames = [encoded([event(number) for number in range(rng.randrange(30))]) for _ in range(900)]
    messages: list[Message] = [(frame, RECEIVED + number) for number, frame in enumerate(frames)]
    assert sum(map(len, frames)) > GROUP_BYTES
    normalizer = Watched(cluster)
    fast = normalizer.normalize(messages)

    assert normalizer.slow == []
    assert fast == slow_way(messages, cluster)
    for _, batch in fast.batches:
        batch.validate(full=True)


@pytest.mark.parametrize(
    "event",
    [
        STOCK_TRADE,
        STOCK_QUOTE,
        {key: STOCK_TRADE[key] for key in ("ev", "sym", "t")},
        {"ev": "Q", **dict(sorted(STOCK_QUOTE.items(), reverse=True))},
        {"ev": "T", **dict(sorted(STOCK_TRADE.items(), reverse=True)), "new": [1.5, "a", True], "a_longer_key": None},
        {"ev": "Q", **dict(sorted(OPTION_QUOTE.items(), reverse=True)), "c": [1]},
    ],
)
def test_a_frame_is_plain_whatever_the_order_of_its_keys_and_with_keys_that_are_new(event: dict[str, Any]) -> None:
    normalizer = Watched("options" if event["sym"].startswith("O:") else "stocks")
    done = normalizer.normalize([(encoded([event, event]), RECEIVED)])

    assert [batch.num_rows for _, batch in done.batches] == [2]
    assert normalizer.slow == []


@pytest.mark.parametrize("event", [STOCK_TRADE, STOCK_QUOTE, OPTION_TRADE, OPTION_QUOTE])
def test_a_frame_cut_anywhere_is_unreadable_and_those_beside_it_are_read(event: dict[str, Any]) -> None:
    cluster = "options" if event["sym"].startswith("O:") else "stocks"
    frame = encoded([event, event])
    for cut in range(len(frame)):
        done = both_ways(frame, frame[:cut], frame[cut:], frame, frame[:cut], cluster=cluster, live=cut % 2 == 0)
        assert [u.data for u in done.unreadable] == [frame[:cut], *([frame[cut:]] if cut else []), frame[:cut]]
        assert len(rows(done)) == 4 + 2 * (cut == 0)


@pytest.mark.parametrize(("cluster", "symbol"), [("stocks", "A"), ("options", "O:")])
@pytest.mark.parametrize("end", ["]", "", ',{"ev":"T"', ',{"ev":"T","sym":"A"}'])
def test_the_smallest_events_there_can_be_have_room(cluster: str, symbol: str, end: str) -> None:
    for count in (1, 2, 26, 2_000):
        event = f'{{"ev":"T","sym":"{symbol}","t":1}}'
        frame = f"[{','.join([event] * count)}{end}".encode()
        assert len(rows(both_ways(frame, cluster=cluster))) == (count if end == "]" else 0)


def test_nothing_is_compiled_once_a_connection_has_begun() -> None:
    scanner = frame_scanner.load()
    for count in (1, 2, 50):
        both_ways(encoded([STOCK_TRADE, STOCK_QUOTE] * count), encoded([{"ev": "T", "sym": "A", "t": 1}]))
        both_ways(encoded([OPTION_TRADE, OPTION_QUOTE] * count), cluster="options")
    compiled: list[Any] = list(scanner)
    assert [len(function.signatures) for function in compiled] == [1, 1, 1]


@pytest.fixture
def kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for what numba keeps, with what it has kept so far."""
    scanner: Any = frame_scanner.load()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    own: Any = numba.njit(cache=True)(frame_scanner.scan)
    for path in Path(scanner.scan.stats.cache_path).glob("frame_scanner.*"):
        shutil.copy(path, own.stats.cache_path)
    frame_scanner.load.cache_clear()
    yield Path(own.stats.cache_path)
    frame_scanner.load.cache_clear()


def test_what_was_compiled_once_is_not_compiled_again(kept_elsewhere: Path) -> None:
    kept = {path: path.stat().st_mtime_ns for path in kept_elsewhere.iterdir()}
    assert len(kept) >= 6
    compiled: list[Any] = list(frame_scanner.load())

    assert [sum(function.stats.cache_hits.values()) for function in compiled] == [1, 1, 1]
    assert {path: path.stat().st_mtime_ns for path in kept_elsewhere.iterdir()} == kept


def test_a_cache_that_was_cut_short_is_done_without(kept_elsewhere: Path) -> None:
    for path in kept_elsewhere.iterdir():
        os.truncate(path, path.stat().st_size // 2)

    frame = encoded([STOCK_TRADE, STOCK_QUOTE])
    assert read(frame) == slow_way([(frame, RECEIVED)])
    assert frame_scanner.load().scan.stats.cache_path is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "damaged",
    [
        '"sym":"B","sym":"A"',
        '"sym":"\\u0042"',
        '"\\u0073ym":"A","x":1',
        '"sym":"A","ev":"Q"',
        '"sym":"A","x":01',
        '"sym":"A","x":-0',
        '"sym":"A","x":1.0',
        '"sym":"A","x":1e0',
        '"sym":"A","p":-0.0',
        '"sym":"A","p":-0',
        '"sym":"A","p":.5',
        '"sym":"A","p":5.',
        '"sym":"A","p":1e2',
        '"sym":"A","p":9007199254740993',
        '"sym":"A","p":44667375401.9253275',
        '"sym":"A","p":337.83147282794969',
        '"sym":"A","p":0.12345678901234567890123456789',
        '"sym":"A","q":9223372036854775807',
        '"sym":"A","q":99999999999999999999999',
        '"sym":"A","c":[1,]',
        '"sym":"A","c":[,1]',
        '"sym":"A","c":[1 ,2]',
        '"sym":"A","c":[32767,-32767]',
        '"sym":"A","c":[32768]',
        '"sym":"A","s":2147483647',
        '"sym":"A","s":2147483648',
        '"sym":"A","t":0',
        '"sym":"A","pt":9223372036854',
        '"sym":"A","pt":9223372036855',
        '"sym":"A","pt":-1',
        '"sym":"A","new":{"a":1}',
        '"sym":"A","new":nul',
        '"sym":"A","new":[[1]]',
        '"sym":"A","":1',
        '"sym":"A",',
        '"sym":"A"}',
        '"sym":"A\x7f"',
        '"sym":"O:SPY251216C00680000"',
        '"sym":""',
        f'"sym":"{"A" * 64}"',
        f'"sym":"{"A" * 65}"',
        '"i":"5"',
    ],
)
def test_what_may_look_plain_gives_what_the_slow_way_gives(damaged: str) -> None:
    time = "" if '"t"' in damaged else ',"t":1536036818784'
    both_ways(f'[{{"ev":"T",{damaged}{time}}}]'.encode(), encoded([STOCK_TRADE]))


NUMBERS = (
    st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{0,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.from_regex(r"[1-9][0-9]{0,8}\.[0-9]{7,9}", fullmatch=True)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("psqxz"), NUMBERS), min_size=1, max_size=4))
def test_a_number_is_the_one_nearest_to_its_text_or_its_frame_is_unreadable(fields: list[tuple[str, str]]) -> None:
    frames = [f'[{{"ev":"T","sym":"A","t":1,"{key}":{text}}}]'.encode() for key, text in fields]
    done = both_ways(encoded([STOCK_TRADE]), *frames)
    kept = [frame for frame in frames if frame not in {unreadable.data for unreadable in done.unreadable}]
    prices = [json.loads(frame, parse_int=float)[0].get("p") for frame in kept]
    assert [row.get("price") for row in rows(done)[1:]] == prices


def test_a_machine_for_which_numba_has_no_package_gives_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [encoded([STOCK_TRADE, STOCK_QUOTE]), b"[", encoded([STOCK_QUOTE])]
    compiled = read(*frames)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert frame_reader("stocks")._plain is None
    assert read(*frames) == compiled


@pytest.mark.parametrize("symbol", ["", "A" * 65, "\u00e9" * 33, "O:SPY251216C00680000"])
def test_a_symbol_that_is_no_ticker_is_refused_among_many(symbol: str) -> None:
    good = encoded([STOCK_TRADE | {"sym": f"S{number}"} for number in range(9)])
    bad = encoded([STOCK_TRADE, STOCK_TRADE | {"sym": symbol}])
    done = read(good, bad, good)

    assert [unreadable.data for unreadable in done.unreadable] == [bad]
    assert len(rows(done)) == 18


def test_the_frames_of_the_simulated_market_are_plain() -> None:
    recorded = Recorded(4, 2_000, 2)
    for cluster, frames in (("stocks", recorded.stock), ("options", recorded.options)):
        normalizer = Watched(cluster)
        normalizer.normalize([(frame, RECEIVED) for frame in frames])
        assert len(frames) > 10
        assert normalizer.slow == []


def test_the_messages_of_the_vendors_specification_are_plain(real_data: Path) -> None:
    paths = json.loads((real_data / "massive-client/spec_websocket.json").read_bytes())["paths"]
    for cluster, kind in itertools.product(("stocks", "options"), "TQ"):
        event = paths[f"/{cluster}/{kind}"]["get"]["responses"]["200"]["content"]["application/json"]["example"]
        normalizer = Watched(cluster)
        done = normalizer.normalize([(encoded([event]), RECEIVED)])
        assert len(rows(done)) == 1
        assert normalizer.slow == []
