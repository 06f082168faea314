"""Writes the simulated SPY as genuine Massive JSON: frames of trades and quotes, its options' too, pages of the chain.

A frame is an array of up to twenty events of ten milliseconds. Frames carry milliseconds, as the vendor's do; the day
files of `day` carry the nanoseconds of the same events. Texts are made a column at a time: what repeats in a
column is formatted once.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.simulation.option_quotes import LARGEST_OPTION_QUOTE, OptionQuotes
from spymaster.simulation.options import (
    LARGEST_OPTION_EXCHANGE,
    LARGEST_OPTION_TRADE,
    STRIKES,
    Board,
    OptionTrades,
)
from spymaster.simulation.pricing import Worth
from spymaster.simulation.stock import (
    CONDITIONS,
    LARGEST_EXCHANGE,
    LARGEST_QUOTE,
    LARGEST_TRADE,
    REPORTING_FACILITY,
    StockQuotes,
    StockTrades,
)

FRAME_EVENTS = 20
FRAME_NS = 10_000_000
PAGE_CONTRACTS = 250
OPTION_CONDITIONS = (209, 227, 232)

_CONDITION_TEXTS = pa.array(
    [f',"c":[{",".join(map(str, codes))}],"t":' if codes else ',"t":' for codes in CONDITIONS], pa.string()
)
_OPTION_CONDITION_TEXTS = pa.array([f',"c":[{code}],"t":' for code in OPTION_CONDITIONS])
_NO_CHAIN_EVERY = 37  # one contract in so many has no greeks


def texts(values: NDArray[np.int64], form: Callable[[int], str] = str, before: str = "", after: str = "") -> pa.Array:
    """Return the text of each value between two others, each distinct value formatted once."""
    encoded: Any = pa.array(values).dictionary_encode()
    shown = [f"{before}{form(value)}{after}" for value in encoded.dictionary.to_numpy().tolist()]
    taken: pa.Array = pa.array(shown, pa.string()).take(encoded.indices)
    return taken


def table(least: int, most: int, before: str = "", after: str = "", form: Callable[[int], str] = str) -> pa.Array:
    """Return the texts of `least` to `most`, each between two others, to be taken by number."""
    return pa.array([f"{before}{form(value)}{after}" for value in range(least, most + 1)], pa.string())


def near(values: NDArray[np.int64], form: Callable[[int], str], before: str = "") -> pa.Array:
    """Return the text of each value, of a column whose values lie close together, as a moment's prices do."""
    if not len(values):
        return pa.array([], pa.string())
    least = int(values.min())
    taken: pa.Array = table(least, int(values.max()), before, "", form).take(values - least)
    return taken


def digits(values: NDArray[np.int64]) -> pa.Array:
    """Return the text of each value, of a column in which few repeat."""
    return pa.array(values).cast(pa.string())


@lru_cache(1 << 16)  # prices come again
def cents(value: int) -> str:
    """Write cents as JSON numbers are written, without zeros at the end."""
    return repr(value / 100)


def ten_thousandths(value: int) -> str:
    return repr(value / 10_000)


def _half_cents(value: int) -> str:
    return repr(value / 200)


def _shares(lots: int) -> str:
    return str(lots * 100)


def join(*parts: Any) -> pa.Array:
    """Join texts and columns of texts, row by row."""
    joined: pa.Array = pc.binary_join_element_wise(*parts, "")
    return joined


# What a column may hold, ready to be taken.
_TRADE_EXCHANGES = table(0, LARGEST_EXCHANGE, '{"ev":"T","sym":"SPY","x":', ',"i":"')
_TRADE_SIZES = table(0, LARGEST_TRADE, ',"s":')
_BID_EXCHANGES = table(0, LARGEST_EXCHANGE, '{"ev":"Q","sym":"SPY","bx":')
_ASK_EXCHANGES = table(0, LARGEST_EXCHANGE, ',"ax":')
_BID_LOTS = table(0, LARGEST_QUOTE // 100, ',"bs":', "", _shares)
_ASK_LOTS = table(0, LARGEST_QUOTE // 100, ',"as":', ',"c":1,"i":[604],"t":', _shares)
_OPTION_EXCHANGES = table(0, LARGEST_OPTION_EXCHANGE, '","x":')
_OPTION_SIZES = table(0, LARGEST_OPTION_TRADE, ',"s":')
_OPTION_BIDDERS = table(0, LARGEST_OPTION_EXCHANGE, '","bx":')
_OPTION_ASKERS = table(0, LARGEST_OPTION_EXCHANGE, ',"ax":')
_OPTION_BID_SIZES = table(0, LARGEST_OPTION_QUOTE, ',"bs":')
_OPTION_ASK_SIZES = table(0, LARGEST_OPTION_QUOTE, ',"as":')


def stock_trade_events(trades: StockTrades) -> pa.Array:
    """Return each print as the JSON object of a frame."""
    ms = (trades.arrival_ns - trades.late_ns) // NS_PER_MS
    stamp = digits(ms)
    reported = pa.array(trades.exchange == REPORTING_FACILITY)
    facility = pc.if_else(reported, join(',"trfi":202,"trft":', stamp), "")
    return join(
        _TRADE_EXCHANGES.take(trades.exchange), digits(trades.trade_id),
        near(trades.price_e4 // 50, _half_cents, '","z":2,"p":'), _TRADE_SIZES.take(trades.size),
        _CONDITION_TEXTS.take(trades.condition), stamp, ',"q":', digits(trades.seq), facility, "}",
    )  # fmt: skip


def stock_quote_events(quotes: StockQuotes) -> pa.Array:
    """Return each quote as the JSON object of a frame."""
    return join(
        _BID_EXCHANGES.take(quotes.bid_exchange), near(quotes.bid, cents, ',"bp":'),
        _BID_LOTS.take(quotes.bid_size // 100), _ASK_EXCHANGES.take(quotes.ask_exchange),
        near(quotes.ask, cents, ',"ap":'), _ASK_LOTS.take(quotes.ask_size // 100),
        digits(quotes.arrival_ns // NS_PER_MS), ',"q":', digits(quotes.seq), ',"z":2}',
    )  # fmt: skip


def option_trade_events(trades: OptionTrades, symbols: pa.Array) -> pa.Array:
    """Return each option trade as the JSON object of a frame; it has neither id nor tape."""
    return join(
        '{"ev":"T","sym":"', symbols.take(trades.number), _OPTION_EXCHANGES.take(trades.exchange),
        texts(trades.price, cents, ',"p":'), _OPTION_SIZES.take(trades.size),
        _OPTION_CONDITION_TEXTS.take(option_condition(trades)),
        digits((trades.arrival_ns - trades.late_ns) // NS_PER_MS), ',"q":', digits(trades.seq), "}",
    )  # fmt: skip


def option_quote_events(quotes: OptionQuotes, symbols: pa.Array) -> pa.Array:
    """Return each option quote as the JSON object of a frame; a side that nobody quotes is all zeros."""
    return join(
        '{"ev":"Q","sym":"', symbols.take(quotes.number), _OPTION_BIDDERS.take(quotes.bid_exchange),
        _OPTION_ASKERS.take(quotes.ask_exchange), texts(quotes.bid, cents, ',"bp":'),
        texts(quotes.ask, cents, ',"ap":'), _OPTION_BID_SIZES.take(quotes.bid_size),
        _OPTION_ASK_SIZES.take(quotes.ask_size), ',"t":',
        digits((quotes.arrival_ns - quotes.late_ns) // NS_PER_MS), ',"q":', digits(quotes.seq), "}",
    )  # fmt: skip


def option_condition(trades: OptionTrades) -> NDArray[np.int64]:
    """Return an index of OPTION_CONDITIONS: electronic, and now and then an auction or a single leg."""
    luck = trades.seq % 16
    index: NDArray[np.int64] = np.where(luck == 0, 2, np.where(luck < 4, 1, 0))
    return index


def frames(events: pa.Array, arrival_ns: NDArray[np.int64]) -> list[bytes]:
    """Pack events, in the order of their arrival, into frames."""
    return [frame for _, frame in timed_frames(events, arrival_ns)]


def timed_frames(events: pa.Array, arrival_ns: NDArray[np.int64]) -> list[tuple[int, bytes]]:
    """Pack events, in the order of their arrival, into frames, and say in which span of time each is."""
    n = len(arrival_ns)
    if not n:
        return []
    span = arrival_ns // FRAME_NS
    begins = np.flatnonzero(np.diff(span, prepend=span[0] - 1))
    place = np.arange(n) - np.repeat(begins, np.diff(begins, append=n))
    edges = np.append(np.flatnonzero(place % FRAME_EVENTS == 0), n).astype(np.int32)
    grouped: Any = pa.ListArray.from_arrays(pa.array(edges, pa.int32()), events)
    packed: Any = join("[", pc.binary_join(grouped, ","), "]").cast(pa.binary())
    return list(zip(span[edges[:-1]].tolist(), packed.to_pylist(), strict=True))


def chain_pages(rows: Sequence[str], at_ns: int) -> list[bytes]:
    """Pack contracts into pages that name the next one, as the REST service does."""
    pages = []
    for begin in range(0, len(rows), PAGE_CONTRACTS):
        more = begin + PAGE_CONTRACTS < len(rows)
        cursor = f"{at_ns:x}{begin + PAGE_CONTRACTS:04x}"
        following = f',"next_url":"https://api.massive.com/v3/snapshot/options/SPY?cursor={cursor}"' if more else ""
        results = ",".join(rows[begin : begin + PAGE_CONTRACTS])
        pages.append(f'{{"request_id":"{at_ns:032x}","results":[{results}],"status":"OK"{following}}}'.encode())
    return pages


class ChainState:
    """What the chain remembers of each contract between two snapshots: its last trade and the day's volume."""

    def __init__(self, board: Board, open_interest: NDArray[np.int64]) -> None:
        self.board = board
        self.last = np.zeros((4, board.count), np.int64)  # price, time, size, exchange; of the last trade
        self.volume = np.zeros(board.count, np.int64)
        self._strikes, self._is_call = board.strikes, board.is_call
        dates = [f"20{one.code[5:7]}-{one.code[7:9]}-{one.code[9:11]}" for one in board.series]
        self._details = pa.array(
            [
                f'}},"details":{{"contract_type":"{"call" if is_call else "put"}","exercise_style":"american",'
                f'"expiration_date":"{dates[number // (2 * STRIKES)]}","shares_per_contract":100,'
                f'"strike_price":{strike},"ticker":"{symbol}"}},"greeks":{{'
                for number, (strike, is_call, symbol) in enumerate(
                    zip(self._strikes.tolist(), self._is_call.tolist(), board.symbols(), strict=True)
                )
            ]
        )
        numbers = range(board.count)
        self._ask_sizes = pa.array([f',"ask_size":{10 + number % 90},"bid":' for number in numbers])
        self._bid_sizes = pa.array([f',"bid_size":{10 + number * 7 % 90},"last_updated":' for number in numbers])
        self._open_interest = texts(open_interest, str, '"open_interest":')

    def record(self, trades: OptionTrades) -> None:
        news = ~trades.repeated
        number = trades.number[news]
        when = trades.arrival_ns - trades.late_ns
        for row, column in zip(self.last, (trades.price, when, trades.size, trades.exchange), strict=True):
            row[number] = column[news]
        np.add.at(self.volume, number, trades.size[news])

    def rows(self, worth: Worth, bid: NDArray[np.int64], ask: NDArray[np.int64], spot_e4: int, at_ns: int) -> list[str]:
        """Return each contract that has not expired, as the vendor's JSON; some have no greeks, most no oddity."""
        board, number = self.board, np.arange(self.board.count)
        known = pa.array(number % _NO_CHAIN_EVERY != 5)
        greeks = join(
            '"delta":', _millionths(worth.delta), ',"gamma":', _millionths(worth.gamma), ',"theta":',
            _millionths(worth.theta), ',"vega":', _millionths(worth.vega), '},"implied_volatility":',
            _millionths(worth.volatility), ",",
        )  # fmt: skip
        price, when, size, exchange = self.last
        traded, closed, stamp = pa.array(when > 0), _each(price, cents), digits(when)
        day = join('"close":', closed, ',"last_updated":', stamp, ',"volume":', digits(self.volume))
        last_trade = join(
            '"last_trade":{"conditions":[209],"exchange":', digits(exchange), ',"price":', closed,
            ',"sip_timestamp":', stamp, ',"size":', digits(size), ',"timeframe":"REAL-TIME"},',
        )  # fmt: skip
        rows = join(
            '{"break_even_price":', _each(self._strikes * 100 + np.where(self._is_call, ask, -ask), cents), ',"day":{',
            pc.if_else(traded, day, ""), self._details, pc.if_else(known, greeks, "},"),
            '"last_quote":{"ask":', _each(ask, cents), self._ask_sizes, _each(bid, cents), self._bid_sizes,
            digits(at_ns - number * 101_009 % 50_000_000), ',"midpoint":', _each(bid + ask, _half_cents),
            ',"timeframe":"REAL-TIME"},', pc.if_else(traded, last_trade, ""), self._open_interest,
            f',"underlying_asset":{{"last_updated":{at_ns},"price":{ten_thousandths(spot_e4)},"ticker":"SPY",'
            f'"timeframe":"REAL-TIME"}}}}',
        )  # fmt: skip
        alive: Any = rows.filter(pa.array(board.expiration_ns > at_ns)).to_pylist()
        listed: list[str] = alive
        return listed


def _each(values: NDArray[np.int64], form: Callable[[int], str]) -> pa.Array:
    """Return the text of each value, of a column too short to look for what repeats."""
    return pa.array([form(value) for value in values.tolist()], pa.string())


def _millionths(values: NDArray[np.float64]) -> pa.Array:
    """Return the text of each value with six decimals."""
    whole = np.rint(values * 1_000_000).astype(np.int64)
    wide = pa.py_buffer(
        np.stack([whole, whole >> 63], 1).astype("<i8").tobytes()
    )  # of 128 bits each, the lower half first
    return pa.Array.from_buffers(pa.decimal128(18, 6), len(whole), [None, wide]).cast(pa.string())
