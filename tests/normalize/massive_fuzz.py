"""Damaged frames, pages and lines by the million: no crash, no wrong row, and what is unreadable in quarantine whole.

Run the long form with `python -m tests.normalize.massive_fuzz 1000000`.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from spymaster.events import SCHEMAS
from spymaster.events.encoding import MassiveDayFile, MassiveFrames, MassivePages
from spymaster.normalize.massive.day_files import DayFileNormalizer
from spymaster.normalize.massive.frames import FrameNormalizer
from spymaster.normalize.massive.pages import PageNormalizer
from spymaster.normalize.normalizer import Normalized
from tests.normalize import massive_oracle as oracle

CHUNK = 2_000
RECEIVED = 1_790_000_000_000_000_007
STOCK_TRADE = {"ev": "T", "sym": "MSFT", "x": 4, "i": "12345", "z": 3, "p": 114.125, "s": 100, "c": [0, 12]} | {
    "t": 1536036818784, "q": 3681328, "pt": 1536036818780, "ds": "100.5", "trfi": 201, "trft": 1536036818783,
}  # fmt: skip
STOCK_QUOTE = {"ev": "Q", "sym": "MSFT", "bx": 4, "bp": 114.125, "bs": 100, "ax": 7, "ap": 114.128, "as": 160} | {
    "c": 0, "i": [604], "t": 1536036818784, "q": 50385480, "z": 3,
}  # fmt: skip
OPTION_TRADE = {"ev": "T", "sym": "O:SPY251216C00680000", "x": 302, "p": 1.54, "s": 1, "c": [233]} | {
    "t": 1629820676333, "q": 651921857,
}  # fmt: skip
OPTION_QUOTE = {"ev": "Q", "sym": "O:SPY241220P00720000", "bx": 302, "ax": 303, "bp": 9.71, "ap": 9.81} | {
    "bs": 17, "as": 24, "t": 1644506128351, "q": 844090872,
}  # fmt: skip
STATUS = {"ev": "status", "status": "success", "message": "subscribed to: T.SPY"}
TRADE_RECORD = {"conditions": [12, 37], "correction": 1, "exchange": 11, "id": "183276", "price": 156.43} | {
    "participant_timestamp": 1651181822461636600, "sequence_number": 7179341, "sip_timestamp": 1651181822461979401,
    "size": 10, "tape": 3, "trf_id": 3, "trf_timestamp": 1651181557090806500, "decimal_size": "10.25",
}  # fmt: skip
QUOTE_RECORD = {"ask_exchange": 15, "ask_price": 155.87, "ask_size": 3, "bid_exchange": 19, "bid_price": 155.85} | {
    "bid_size": 4, "participant_timestamp": 1652191872800402201, "sequence_number": 19288684,
    "sip_timestamp": 1652191872800638701, "tape": 3, "indicators": [604],
}  # fmt: skip
OPTION_QUOTE_RECORD = {"ask_exchange": 303, "ask_price": 9.81, "ask_size": 24, "bid_exchange": 302} | {
    "bid_price": 9.71, "bid_size": 17, "sequence_number": 844090872, "sip_timestamp": 1644506128351604736,
}  # fmt: skip
SNAPSHOT = {
    "day": {"volume": 8, "last_updated": 1651204800000000000},
    "details": {"ticker": "O:AAPL230616C00150000", "exercise_style": "american", "shares_per_contract": 100},
    "greeks": {"delta": 0.64366, "gamma": 0.00617, "theta": -0.0282, "vega": 0.638},
    "implied_volatility": 0.357, "open_interest": 8133,
    "last_quote": {"ask": 29.25, "ask_size": 209, "bid": 28.9, "bid_size": 294, "last_updated": 1651254260800059648},
    "underlying_asset": {"last_updated": 1651254263172073152, "price": 159.96, "timeframe": "DELAYED"},
}  # fmt: skip
RECORDS: dict[str, dict[str, Any]] = {
    "stocks.trades": TRADE_RECORD,
    "stocks.quotes": QUOTE_RECORD,
    "options.quotes": OPTION_QUOTE_RECORD,
    "options.greeks_snapshots": SNAPSHOT,
}
OPTION = "O:SPY251216C00680000"
LINES = {
    "stocks.trades": (
        "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,"
        "trf_id,trf_timestamp",
        'NA,"12,37",0,4,52983525029461,1725537600089190400,155.760000,3,1725537600089436929,100.000000,1,0,0',
        "A,12,0,11,1,1381132800464000000,167.41,1,1381132800464000001,100,2,,0",
    ),
    "stocks.quotes": (
        "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,conditions,indicators,"
        "participant_timestamp,sequence_number,sip_timestamp,tape,trf_timestamp",
        'A,15,155.87,3,19,155.85,4,"1,81",604,1652191872800402201,19288684,1652191872800638701,3,0',
        "SPY,15,155.87,3,19,,0,1,,1652191872800402201,19288684,1652191872800638701,3,",
    ),
    "options.trades": (
        "ticker,conditions,correction,exchange,price,sip_timestamp,size",
        "O:SPY251216C00680000,233,0,302,1.54,1629820676333000001,1",
        "O:SPXW251216P06800500,227,0,300,0.05,1629820676333000002,12",
    ),
    "options.quotes": (
        "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,sequence_number,sip_timestamp",
        "O:SPY241220P00720000,303,9.81,24,302,9.71,17,844090872,1644506128351604736",
        "O:SPY241220P00720000,303,0.050000,24.000000,0,0,0,844090873,1644506128351604737",
    ),
}  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, 0, -0.0, -1, 1.0, 0.5, 1e400, float("nan"), float("-inf"), 2**15, -(2**15), 2**31, -(2**31),
    2**31 - 1, 2**53 + 1, 2**63, 2**63 - 1, -(2**63), 10**30, 10**400, 1e300, 5e-324, "", "4", "é", "\x00", "O:", "O:X",
    "O:SPY251399C00680000", "O: 251216C00680000", "\U0001f600", "\ud800", "A" * 70, 'a"b,c\n', [], [1, 2], [1.5],
    [[1]], [None], ["1"], [2**15], {}, {"a": 1}, 9223372036854, 9223372036855, 0.1 + 0.2, 1651181822461979400.0,
]  # fmt: skip
ODD_BYTES = [
    b'"',
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b" ",
    b"0",
    b"e",
    b".",
    b"-",
]
ODD_BYTES += [b"},{", b"null", b"NaN", b"1e999", b"\\ud800", b"0x10", b"+", b"\xc3\xa9", b'"ev":"Q",', b'""', b"\t"]


def frame_reader(cluster: Any, *, simulated: bool = False) -> FrameNormalizer:
    return FrameNormalizer(MassiveFrames(cluster, "ALL"), origin="massive", simulated=simulated)


def page_reader(schema: str, ticker: str) -> PageNormalizer:
    return PageNormalizer(MassivePages(SCHEMAS[schema], ticker, "ALL"), origin="massive")


def line_reader(header: bytes, *tickers: str) -> DayFileNormalizer:
    return DayFileNormalizer(MassiveDayFile(header, tickers), origin="flatfile:day.csv")


@dataclass
class Figures:
    """What became of mutated messages. `crashes` and `wrong_rows` must be 0."""

    mutations: int = 0
    crashes: int = 0
    wrong_rows: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    example: str = ""

    def add(self, other: "Figures") -> None:
        self.mutations += other.mutations
        self.crashes += other.crashes
        self.wrong_rows += other.wrong_rows
        self.quarantined += other.quarantined
        self.example = self.example or other.example


def torture(mutations: int, workers: int, progress: Callable[[int], None]) -> Figures:
    """Mutate and compare, in processes of their own so that a crash of one is counted, not shared."""
    total, began = Figures(), time.perf_counter()
    seeds = range(-(-mutations // CHUNK))
    if workers <= 1:
        for seed in seeds:
            total.add(chunk(seed))
            progress(total.mutations)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(chunk, seed) for seed in seeds]):
                total.add(done.result())
                progress(total.mutations)
    total.seconds = time.perf_counter() - began
    return total


def chunk(seed: int) -> Figures:
    """Run `CHUNK` mutated messages, some at a time as within a tick, with sound ones among them."""
    rng, figures = random.Random(seed), Figures()
    while figures.mutations < CHUNK:
        count = rng.randint(1, 6)
        run = rng.choice((_frames, _frames, _frames, _pages, _lines))
        made = Figures(mutations=count)
        try:
            run(rng, count, made)
        except oracle.BadError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            made.crashes += 1
            made.example = f"seed {seed}: {run.__name__}: {type(error).__name__}: {error}"[:400]
        figures.add(made)
    return figures


def _frames(rng: random.Random, count: int, figures: Figures) -> None:
    cluster = rng.choice(("stocks", "stocks", "options"))
    kinds = (STOCK_TRADE, STOCK_QUOTE) if cluster == "stocks" else (OPTION_TRADE, OPTION_QUOTE)
    frames = []
    for _ in range(count):
        events = [_thinned(rng, rng.choice((STATUS, *kinds) if rng.random() < 0.05 else kinds)) for _ in range(3)]
        frames.append(_mutated_json(rng, events[: rng.randint(1, 3)]))
    live = rng.random() < 0.8
    messages = [(frame, RECEIVED + number if live else None) for number, frame in enumerate(frames)]
    normalizer = frame_reader(cluster)
    done = normalizer.normalize(messages)

    expected: list[tuple[str, oracle.Row]] = []
    refused, others = [], 0
    for frame, ts_local_ns in messages:
        try:
            rows, ignored = oracle.frame(frame, cluster)
        except oracle.BadError:
            refused.append(frame)
            continue
        if any(unreadable.data is frame for unreadable in done.unreadable) and _absurd(frame):
            refused.append(frame)
            continue
        others += ignored
        expected += [(schema, row | _times(row, ts_local_ns)) for schema, row in rows]
    _compare(done, expected, refused, figures)
    if sum(normalizer.ignored.values()) != others:
        figures.wrong_rows += 1


def _pages(rng: random.Random, count: int, figures: Figures) -> None:
    schema, base = rng.choice(list(RECORDS.items()))
    ticker = OPTION if schema == "options.quotes" else "AAPL"
    ts_local_ns = RECEIVED if rng.random() < 0.8 else None
    pages = []
    for _ in range(count):
        results = [_thinned(rng, base) for _ in range(rng.randint(1, 3))]
        if schema == "options.greeks_snapshots":
            results = [_odd_nested(rng, result) for result in results]
        pages.append(_mutated_json(rng, {"results": results, "status": "OK", "request_id": "1"}, results))
    done = page_reader(schema, ticker).normalize([(page, ts_local_ns) for page in pages])

    expected, refused = [], []
    for page in pages:
        try:
            rows = oracle.page(page, schema, ticker, ts_local_ns)
        except oracle.BadError:
            refused.append(page)
            continue
        if any(unreadable.data is page for unreadable in done.unreadable) and _absurd(page):
            refused.append(page)
            continue
        expected += [(schema, row | _times(row, ts_local_ns)) for row in rows]
    _compare(done, expected, refused, figures)


def _lines(rng: random.Random, count: int, figures: Figures) -> None:
    schema = rng.choice(list(LINES))
    header, *sound = LINES[schema]
    if schema == "stocks.trades" and rng.random() < 0.4:
        header, sound = f"{header},decimal_size", [f"{line}{end}" for line in sound for end in (",", ",100.2500000")]
    text = b"".join(_mutated_line(rng, rng.choice(sound).encode() + b"\n") for _ in range(count))
    ticker = OPTION if schema.startswith("options.") else "A"
    normalizer = line_reader(header.encode() + b"\n", ticker)
    cut = rng.randint(0, len(text))
    done = Normalized([], [])
    for part in (text[:cut], text[cut:]):
        some = normalizer.normalize([(part, None)])
        done.batches.extend(some.batches)
        done.unreadable.extend(some.unreadable)

    expected, refused = [], []
    for line in text.split(b"\n")[:-1]:
        if line in (b"", b"\r"):
            continue
        try:
            row = oracle.line(line + b"\n", header.split(","), schema)
        except oracle.BadError:
            refused.append(line + b"\n")
            continue
        expected.append((schema, row | _times(row, None)))
    _compare(done, expected, refused, figures)


def _compare(done: Normalized, expected: list[tuple[str, oracle.Row]], refused: list[bytes], figures: Figures) -> None:
    """Count rows that are not as expected in number, order or value, and messages that are where they should not be."""
    figures.quarantined += len(done.unreadable)
    if [unreadable.data for unreadable in done.unreadable] != refused:
        figures.wrong_rows += 1
        odd = {u.data: u.reason for u in done.unreadable}
        differ = next((m for m in [*odd, *refused] if (m in odd) != (m in refused)), b"order")
        figures.example = figures.example or f"quarantine {odd.get(differ)}: {differ!r}"[:600]
        return
    for schema in {name for name, _ in expected} | {schema.name for schema, _ in done.batches}:
        theirs = [row for name, row in expected if name == schema]
        ours = [row for found, batch in done.batches if found.name == schema for row in batch.to_pylist()]
        if len(ours) != len(theirs):
            figures.wrong_rows += 1
            figures.example = figures.example or f"{len(ours)} rows instead of {len(theirs)}"
        for mine, other in zip(ours, theirs, strict=False):
            unequal = {name: (mine[name], value) for name, value in other.items() if mine[name] != value}
            if unequal:
                figures.wrong_rows += 1
                figures.example = figures.example or f"{schema}: {unequal}"[:600]


def _times(row: oracle.Row, ts_local_ns: int | None) -> oracle.Row:
    return {"ts_local_ns": ts_local_ns, "ts_recv_ns": row["ts_event_ns"] if ts_local_ns is None else ts_local_ns}


def _absurd(message: bytes) -> bool:
    """Numbers of hundreds of digits, hundreds of levels and half a character are read by `json` and may be refused.

    The oracle sees half a character only where it is kept; who reads a key that stands twice sees both of its values.
    """
    digits = max((len(run) for run in message.translate(_RUNS).split()), default=0)
    half = b"\\ud8" in message.lower()
    return half or digits > 300 or message.count(b"[") > 200 or message.count(b"{") > 200


_RUNS = bytes(byte if chr(byte).isdigit() else 32 for byte in range(128)) + b" " * 128


def _thinned(rng: random.Random, event: dict[str, Any]) -> dict[str, Any]:
    if rng.random() < 0.5:
        return event
    return {key: value for key, value in event.items() if rng.random() < 0.85 or key in ("ev", "sym")}


def _odd_nested(rng: random.Random, result: dict[str, Any]) -> dict[str, Any]:
    nested = [key for key, value in result.items() if isinstance(value, dict)]
    if not nested or rng.random() < 0.5:
        return result
    group = rng.choice(nested)
    return result | {group: _odd(rng, result[group])}


def _odd(rng: random.Random, event: dict[str, Any]) -> dict[str, Any]:
    key = rng.choice([*event, "ev", "new"])
    return event | {key: rng.choice(ODD_VALUES)}


def _mutated_json(rng: random.Random, document: Any, events: list[dict[str, Any]] | None = None) -> bytes:
    """Dump a document after changing values in it, bytes of its text, both, or nothing."""
    events = document if events is None else events
    kind = rng.random()
    if kind < 0.45:
        for _ in range(rng.randint(1, 2)):
            number = rng.randrange(len(events))
            events[number] = _odd(rng, events[number])
    if kind > 0.98:
        events.append(events[0] | {"deep": json.loads("[" * 80 + "]" * 80)})
    separators = (",", ":") if rng.random() < 0.8 else (", ", ": ")
    data = json.dumps(document, separators=separators, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind > 0.995:
        return b"[" * 5000 + data
    return _mutated_bytes(rng, data) if 0.4 < kind < 0.85 else data


def _mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    mutated = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(mutated) + 1)
        how = rng.randrange(6)
        if how == 0 and at < len(mutated):
            mutated[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del mutated[at : at + rng.choice((1, 1, 3, 20))]
        elif how == 2:
            mutated[at:at] = mutated[at : at + rng.choice((1, 5, 40))]
        elif how == 3:
            mutated[at:at] = rng.choice(ODD_BYTES)
        elif how == 4 and at < len(mutated):
            mutated[at : at + 1] = rng.choice(ODD_BYTES)
        elif rng.random() < 0.2:
            del mutated[at:]
    return bytes(mutated)


def _mutated_line(rng: random.Random, line: bytes) -> bytes:
    kind = rng.random()
    if kind < 0.3:
        return line
    if kind < 0.5:
        values = line[:-1].split(b",")
        value = str(rng.choice(ODD_VALUES)).encode("utf-8", "surrogatepass").replace(b"\n", b"")
        values[rng.randrange(len(values))] = value
        return b",".join(values) + b"\n"
    return _mutated_bytes(rng, line)


def main() -> None:
    mutations = int(sys.argv[1])
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    print(torture(mutations, workers, lambda done: None))


if __name__ == "__main__":
    main()
