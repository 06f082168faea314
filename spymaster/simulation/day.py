"""A day of the simulated market in the files that the vendors sell: for tests, demonstrations and benchmarks.

A folder of one UTC day:
    glbx-mdp3-YYYYMMDD.{trades,mbp-10,definition}.dbn.zst    ES futures and options, ids mapped in the header
    glbx-mdp3-YYYYMMDD.{mbp-1,statistics,status}.dbn.zst     quotes of ES options; open interest, settlement and the
                                                              trading state of futures and options
    us_stocks_sip/{trades_v1,quotes_v1}/YYYY-MM-DD.csv.gz     SPY
    us_options_opra/{trades_v1,quotes_v1}/YYYY-MM-DD.csv.gz   SPY's options
    chain/HHMMSS-N.json                                       pages of SPY's option chain, every quarter of an hour
    truth.jsonl                                               what was planted, and who was the aggressor of each option
                                                              print (`print_truth`), one JSON object a line
    manifest.json                                             rows, bytes and SHA-256 of each file; written last

The files hold the events that a live session would have carried, with the nanoseconds that frames round to
milliseconds; what a live session repeats, they do not. Statistics and status begin as a live session does, with how
things stand. A folder without a manifest is not whole.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import databento_dbn
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard
from numpy.typing import NDArray

from spymaster import durable
from spymaster.clock import NS_PER_DAY, NS_PER_SECOND, utc_text
from spymaster.errors import UsageError
from spymaster.simulation.book import Tape
from spymaster.simulation.calendar import NS_PER_MINUTE
from spymaster.simulation.dbn import HALTED, TRADING, Encoder, Listing, Records, announce, prints_first
from spymaster.simulation.dbn_numbers import STATISTIC_BYTES, STATUS_BYTES, ExchangeEncoder, halts
from spymaster.simulation.dbn_quotes import QuoteRecords
from spymaster.simulation.deliveries import ChainWriter
from spymaster.simulation.market import Session
from spymaster.simulation.massive_json import (
    OPTION_CONDITIONS,
    cents,
    digits,
    join,
    option_condition,
    ten_thousandths,
    texts,
)
from spymaster.simulation.option_quotes import OptionQuotes
from spymaster.simulation.options import Board, OptionTrades
from spymaster.simulation.plant import USUAL_PRICE
from spymaster.simulation.print_truth import EsPrints, print_truth
from spymaster.simulation.step import Step
from spymaster.simulation.stock import CONDITIONS, REPORTING_FACILITY, StockQuotes, StockTrades

CHAIN_NS: Final = 900 * NS_PER_SECOND
DAY_RATE: Final = 100
MINUTES_PER_DAY: Final = 1_440
_TRADE_WORDS, _BOOK_WORDS = 6, 46  # of eight bytes, in a trade record and in an MBP-10 record
_DBN_SCHEMAS: Final = ("trades", "mbp-10", "definition", "mbp-1", "statistics", "status")
_MAPPING_BYTES: Final = 176
_PARTICIPANT_NS: Final = 250_000  # from the exchange to the consolidated tape
_GZIP_LEVEL: Final = 4

_STOCK_TRADES = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,sip_timestamp,size,tape,"
    "trf_id,trf_timestamp"
)
_STOCK_QUOTES = (
    "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,conditions,indicators,"
    "participant_timestamp,sequence_number,sip_timestamp,tape,trf_timestamp"
)
_OPTION_TRADES = "ticker,conditions,correction,exchange,price,sip_timestamp,size"
_OPTION_QUOTES = "ticker,ask_exchange,ask_price,ask_size,bid_exchange,bid_price,bid_size,sequence_number,sip_timestamp"
_CONDITION_TEXTS = pa.array(
    [f'"{",".join(map(str, codes))}"' if len(codes) > 1 else "".join(map(str, codes)) for codes in CONDITIONS]
)


@dataclass
class _File:
    """A file that grows. The raw file beneath a compressor is closed with it."""

    path: Path
    stream: Any
    raw: io.BufferedWriter
    rows: int = 0

    def write(self, data: bytes, rows: int) -> None:
        self.stream.write(data)
        self.rows += rows

    def close(self) -> None:
        self.stream.close()
        self.raw.close()


@dataclass
class SimulatedDay:
    """What `write_day` wrote."""

    out: Path
    files: list[dict[str, Any]] = field(default_factory=list)
    truths: int = 0

    @property
    def rows(self) -> int:
        return sum(entry["rows"] for entry in self.files)


def write_day(
    day: date,
    out: Path,
    seed: int = 1,
    rate: int = DAY_RATE,
    plant: tuple[str, ...] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
    minutes: tuple[int, int] = (0, MINUTES_PER_DAY),
    strength: float = 1.0,
    price: str = USUAL_PRICE,
) -> SimulatedDay:
    """Write a day of the market, or a part of it, into a new folder.

    Args:
        day: of UTC.
        out: the folder, which must be empty or not there.
        seed: of the market.
        rate: DBN records a second, on average in normal activity.
        plant: kinds of scenarios to plant.
        progress: is told how many seconds are done, and of how many.
        minutes: of the UTC day, from the first and before the second.
        strength: by which what is planted is multiplied, more than 0 and up to 1.
        price: `usual` or `calm`, how often the price moves.

    Raises:
        UsageError: the folder is not empty, the day is not in 2000 to 2099, or no time passes between the minutes.
        OSError: the disk refused; the folder has no manifest then.
    """
    if out.exists() and (not out.is_dir() or any(durable.entries(out))):
        raise UsageError(f"{out} is not an empty folder. Nothing was written. Next: give --out a new one")
    if not 2000 <= day.year <= 2099:
        raise UsageError(f"{day} is not in the years 2000 to 2099. Nothing was written. Next: give another date")
    first, last = minutes
    if not 0 <= first < last <= MINUTES_PER_DAY:
        raise UsageError(f"minutes {first} to {last} are no part of a day. Nothing was written. Next: begin before end")
    midnight = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * NS_PER_SECOND
    begin, end = midnight + first * NS_PER_MINUTE, midnight + last * NS_PER_MINUTE
    session = Session(
        seed, rate, begin, plant, with_spy=True, chain_ns=CHAIN_NS, strength=strength, price=price
    )  # fmt: skip
    writer = _DayWriter(day, out, seed)
    total = (end - begin) // NS_PER_SECOND
    try:
        for step in session.steps():
            if step.begin >= end:
                break
            writer.write(step)
            writer.tell(session)
            progress((step.end - begin) // NS_PER_SECOND, total)
    finally:
        writer.close()
    progress(total, total)
    done = SimulatedDay(out, [_described(file, out) for file in writer.files], writer.truths)
    manifest = {
        "date": day.isoformat(),
        "seed": seed,
        "rate": rate,
        "plant": list(plant),
        "strength": strength,
        "price": price,
        "begin": utc_text(begin),
        "end": utc_text(end),
        "files": done.files,
    }
    durable.publish(json.dumps(manifest, indent=2).encode() + b"\n", out / "manifest.json")
    return done


def _described(file: _File, out: Path) -> dict[str, Any]:
    with file.path.open("rb") as written:
        content = hashlib.file_digest(written, "sha256").hexdigest()
    return {
        "path": file.path.relative_to(out).as_posix(),
        "rows": file.rows,
        "bytes": file.path.stat().st_size,
        "sha256": content,
    }


class _DayWriter:
    """The open files of a day."""

    def __init__(self, day: date, out: Path, seed: int) -> None:
        self._day, self._out = day, out
        self._encoder, self._chain = Encoder((seed, 0, 2)), ChainWriter()
        self._exchange, self._es_prints = ExchangeEncoder(), EsPrints(self._tell_prints)
        self._board: Board | None = None
        self._symbols = pa.array([], pa.string())
        self.files: list[_File] = []
        self._dbn = {name: self._open_dbn(name) for name in _DBN_SCHEMAS}
        self._trades = self._open_csv("us_stocks_sip/trades_v1", _STOCK_TRADES)
        self._quotes = self._open_csv("us_stocks_sip/quotes_v1", _STOCK_QUOTES)
        self._options = self._open_csv("us_options_opra/trades_v1", _OPTION_TRADES)
        self._option_quotes = self._open_csv("us_options_opra/quotes_v1", _OPTION_QUOTES)
        self._truth, self.truths = self._open("truth.jsonl", lambda raw: raw), 0

    def write(self, step: Step) -> None:
        if step.opened:
            self._announce(step.listing, step.begin)
        self._write_dbn(step)
        if step.quotes is not None and step.trades is not None:
            self._quotes.write(_lines(_quote_rows(step.quotes)), len(step.quotes.seq))
            self._trades.write(_lines(_trade_rows(step.trades)), len(step.trades.seq))
        if step.options is not None and step.spy_quotes is not None:
            if step.spy is not self._board:
                self._board, self._symbols = step.spy, pa.array(step.spy.symbols())
            self._options.write(_lines(_option_rows(step.options, self._symbols)), len(step.options.seq))
            rows = _option_quote_rows(step.spy_quotes, self._symbols)
            self._option_quotes.write(_lines(rows), len(rows))
            self._tell_prints(print_truth(step.options, self._symbols, step.options.seq))
        pages = (page for pages in self._chain.write(step) for page in pages)
        for number, page in enumerate(pages, 1):
            name = f"chain/{utc_text(step.begin)[11:19].replace(':', '')}-{number}.json"
            file = self._open(name, lambda raw: raw)
            file.write(page, page.count(b'"details"'))
            file.close()

    def tell(self, session: Session) -> None:
        """Write what was planted since the last time."""
        while session.truths:
            self._truth.write(json.dumps(session.truths.popleft()).encode() + b"\n", 1)
            self.truths += 1

    def _tell_prints(self, lines: bytes) -> None:
        self._truth.write(lines, lines.count(b"\n"))

    def close(self) -> None:
        for file in self.files:
            file.close()

    def _announce(self, listing: Listing, now: int) -> None:
        mappings = len(listing.instrument_ids) * _MAPPING_BYTES
        definitions = announce(listing, now, self._encoder.received(now))[mappings:]
        for name, file in self._dbn.items():
            file.write(_header(name, listing, now), 0)
        self._dbn["definition"].write(definitions, len(listing.instrument_ids) + 1)  # a spread has one for each leg

    def _write_dbn(self, step: Step) -> None:
        """Write what a live session sends of a step as one stream, each record into the file of its schema."""
        listing, received = step.listing, self._encoder.received(step.begin)
        action = HALTED if step.halted else TRADING
        states = b"" if step.halted is None else halts(listing, action, step.begin, received)
        if step.said is not None:
            scheduled, statistics = self._exchange.encode(step.said, listing, received)
            states += scheduled
            self._dbn["statistics"].write(statistics, len(statistics) // STATISTIC_BYTES)
        self._dbn["status"].write(states, len(states) // STATUS_BYTES)
        quotes = QuoteRecords(step.es_quotes, listing.instrument_ids)
        self._es_prints.begin(listing, step.es_options)
        for tape in step.tapes:
            quoted = quotes.among(*self._write_tape(tape, listing), received)
            self._dbn["mbp-1"].write(quoted.records.tobytes(), len(quoted.records))
            received = self._encoder.received(step.begin)
        rest = quotes.rest(received).records
        self._dbn["mbp-1"].write(rest.tobytes(), len(rest))

    def _write_tape(self, tape: Tape, listing: Listing) -> tuple[Records, NDArray[np.int64]]:
        """Sort an encoded tape's records into the two files, by their sizes; return them, and their events' times."""
        once = tape._replace(**{name: column[~tape.repeated] for name, column in _columns(tape).items()})
        records = self._encoder.encode(once, listing.instrument_ids)
        self._es_prints.tell(once, records)
        data = np.frombuffer(records.data, np.uint64)
        words = record_words(once)
        is_trade = np.repeat(words == _TRADE_WORDS, words)
        trades = int((words == _TRADE_WORDS).sum())
        self._dbn["trades"].write(data[is_trade].tobytes(), trades)
        self._dbn["mbp-10"].write(data[~is_trade].tobytes(), len(words) - trades)
        return records, once.arrival_ns

    def _open_dbn(self, name: str) -> _File:
        compressor = zstandard.ZstdCompressor(level=3)
        return self._open(
            f"glbx-mdp3-{self._day:%Y%m%d}.{name}.dbn.zst", lambda raw: compressor.stream_writer(raw, closefd=False)
        )

    def _open_csv(self, folder: str, header: str) -> _File:
        # Without name and time in the gzip header, so that the same day is the same file.
        file = self._open(
            f"{folder}/{self._day.isoformat()}.csv.gz",
            lambda raw: gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0),
        )
        file.write(header.encode() + b"\n", 0)
        return file

    def _open(self, name: str, wrap: Callable[[io.BufferedWriter], Any]) -> _File:
        path = self._out / name
        durable.make_directories(path.parent)
        raw = path.open("xb")
        self.files.append(_File(path, wrap(raw), raw))
        return self.files[-1]


def record_words(tape: Tape) -> NDArray[np.int64]:
    """Return the length, in words of eight bytes, of each record that an encoded tape consists of."""
    traded = (tape.traded > 0) & ~tape.print_only
    ends = np.cumsum(1 + 2 * traded)
    words = np.full(int(ends[-1]) if len(ends) else 0, _BOOK_WORDS)
    at = (ends - 3)[traded]
    if not tape.last.all():
        at, _ = prints_first(tape.last, traded, ends - 1 - 2 * traded, (2, 1))
    words[at] = _TRADE_WORDS
    words[(ends - 1)[tape.print_only]] = _TRADE_WORDS
    return words


def _columns(tape: Tape) -> dict[str, NDArray[Any]]:
    return {name: column for name, column in tape._asdict().items() if name != "levels"}


def _header(name: str, listing: Listing, now: int) -> bytes:
    """Return the header of a file of one schema: of all instruments of the day, ids and symbols."""
    day = datetime.fromtimestamp(now // NS_PER_SECOND, UTC).date()
    symbols = [*listing.symbols, *listing.options.symbols()]
    mappings: list[Any] = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=day, end_date=day + timedelta(days=1), symbol=str(number))],
        )
        for symbol, number in zip(symbols, listing.instrument_ids, strict=True)
    ]
    parents = ["ES.FUT", *(f"{one.code[:-2]}.OPT" for one in listing.options.series)]
    return databento_dbn.Metadata(
        dataset="GLBX.MDP3", start=now, end=now + NS_PER_DAY, stype_in=databento_dbn.SType.from_str("parent"),
        stype_out=databento_dbn.SType.from_str("instrument_id"), schema=databento_dbn.Schema.from_str(name),
        symbols=sorted(set(parents)), partial=[], not_found=[], mappings=mappings, version=3,
    ).encode()  # fmt: skip


def _lines(rows: pa.Array) -> bytes:
    """Return rows as the lines of a file."""
    if not len(rows):
        return b""
    whole: Any = pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
    text: Any = pc.binary_join(whole, "\n")
    return str(text[0].as_py()).encode() + b"\n"


def _trade_rows(trades: StockTrades) -> pa.Array:
    happened = trades.arrival_ns - trades.late_ns
    reported = trades.exchange == REPORTING_FACILITY
    return join(
        "SPY,", _CONDITION_TEXTS.take(trades.condition), ",0,", texts(trades.exchange), ",", digits(trades.trade_id),
        ",", digits(happened - _PARTICIPANT_NS), ",", texts(trades.price_e4, ten_thousandths), ",", digits(trades.seq),
        ",", digits(happened), ",", texts(trades.size), ",2,", texts(np.where(reported, 202, 0)), ",",
        digits(np.where(reported, happened, 0)),
    )  # fmt: skip


def _quote_rows(quotes: StockQuotes) -> pa.Array:
    return join(
        "SPY,", texts(quotes.ask_exchange), ",", texts(quotes.ask, cents), ",", texts(quotes.ask_size), ",",
        texts(quotes.bid_exchange), ",", texts(quotes.bid, cents), ",", texts(quotes.bid_size), ",1,604,",
        digits(quotes.arrival_ns - _PARTICIPANT_NS), ",", digits(quotes.seq), ",", digits(quotes.arrival_ns), ",2,0",
    )  # fmt: skip


def _option_rows(trades: OptionTrades, symbols: pa.Array) -> pa.Array:
    return join(
        symbols.take(trades.number), ",", texts(np.array(OPTION_CONDITIONS)[option_condition(trades)]), ",0,",
        texts(trades.exchange), ",", texts(trades.price, cents), ",", digits(trades.arrival_ns - trades.late_ns), ",",
        texts(trades.size),
    )  # fmt: skip


def _option_quote_rows(quotes: OptionQuotes, symbols: pa.Array) -> pa.Array:
    return join(
        symbols.take(quotes.number), ",", texts(quotes.ask_exchange), ",", texts(quotes.ask, cents), ",",
        texts(quotes.ask_size), ",", texts(quotes.bid_exchange), ",", texts(quotes.bid, cents), ",",
        texts(quotes.bid_size), ",", digits(quotes.seq), ",", digits(quotes.arrival_ns - quotes.late_ns),
    )  # fmt: skip
