"""Writes the simulated SPY as genuine Massive JSON: websocket frames of trades and quotes, pages of the option chain.

A frame is an array of up to twenty events of ten milliseconds. Frames carry milliseconds, as the vendor's do; the day
files of `sim_day` carry the nanoseconds of the same events. Texts are made a column at a time: what repeats in a
column is formatted once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.feeds.sim_options import STRIKES, Board, OptionTrades
from spymaster.feeds.sim_pricing import Worth
from spymaster.feeds.sim_stock import CONDITIONS, REPORTING_FACILITY, StockQuotes, StockTrades

FRAME_EVENTS = 20
FRAME_NS = 10_000_000
PAGE_CONTRACTS = 250
NS_PER_MS = 1_000_000
OPTION_CONDITIONS = (209, 227, 232)

_CONDITION_TEXTS = pa.array([f',"c":[{",".join(map(str, codes))}]' if codes else "" for codes in CONDITIONS])
_NO_CHAIN_EVERY = 37  # one contract in so many has no greeks


def texts(values: NDArray[np.int64], form: Callable[[int], str] = str) -> pa.Array:
    """Return the text of each value, each distinct value formatted once."""
    encoded: Any = pa.array(values).dictionary_encode()
    shown: pa.Array = pa.array([form(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return shown.take(encoded.indices)


def digits(values: NDArray[np.int64]) -> pa.Array:
    """Return the text of each value, of a column in which few repeat."""
    return pa.array(values).cast(pa.string())


def cents(value: int) -> str:
    """Write cents as JSON numbers are written, without zeros at the end."""
    return repr(value / 100)


def ten_thousandths(value: int) -> str:
    return repr(value / 10_000)


def join(*parts: Any) -> pa.Array:
    """Join texts and columns of texts, row by row."""
    joined: pa.Array = pc.binary_join_element_wise(*parts, "")
    return joined


def stock_trade_events(trades: StockTrades) -> pa.Array:
    """Return each print as the JSON object of a frame."""
    ms = (trades.arrival_ns - trades.late_ns) // NS_PER_MS
    stamp = digits(ms)
    reported = pa.array(trades.exchange == REPORTING_FACILITY)
    facility = pc.if_else(reported, join(',"trfi":202,"trft":', stamp), "")
    return join(
        '{"ev":"T","sym":"SPY","x":', texts(trades.exchange), ',"i":"', digits(trades.trade_id), '","z":2,"p":',
        texts(trades.price_e4, ten_thousandths), ',"s":', texts(trades.size),
        _CONDITION_TEXTS.take(trades.condition), ',"t":', stamp, ',"q":', digits(trades.seq), facility, "}",
    )  # fmt: skip


def stock_quote_events(quotes: StockQuotes) -> pa.Array:
    """Return each quote as the JSON object of a frame."""
    return join(
        '{"ev":"Q","sym":"SPY","bx":', texts(quotes.bid_exchange), ',"bp":', texts(quotes.bid, cents),
        ',"bs":', texts(quotes.bid_size), ',"ax":', texts(quotes.ask_exchange), ',"ap":', texts(quotes.ask, cents),
        ',"as":', texts(quotes.ask_size), ',"c":1,"i":[604],"t":', digits(quotes.arrival_ns // NS_PER_MS),
        ',"q":', digits(quotes.seq), ',"z":2}',
    )  # fmt: skip


def option_trade_events(trades: OptionTrades, symbols: pa.Array) -> pa.Array:
    """Return each option trade as the JSON object of a frame; it has neither id nor tape."""
    return join(
        '{"ev":"T","sym":"', symbols.take(trades.number), '","x":', texts(trades.exchange),
        ',"p":', texts(trades.price, cents), ',"s":', texts(trades.size),
        ',"c":[', texts(np.array(OPTION_CONDITIONS)[option_condition(trades)]), '],"t":',
        digits((trades.arrival_ns - trades.late_ns) // NS_PER_MS), ',"q":', digits(trades.seq), "}",
    )  # fmt: skip


def option_condition(trades: OptionTrades) -> NDArray[np.int64]:
    """Return an index of OPTION_CONDITIONS: electronic, and now and then an auction or a single leg."""
    luck = trades.seq % 16
    index: NDArray[np.int64] = np.where(luck == 0, 2, np.where(luck < 4, 1, 0))
    return index


def frames(events: pa.Array, arrival_ns: NDArray[np.int64]) -> list[bytes]:
    """Pack events, in the order of their arrival, into frames."""
    n = len(arrival_ns)
    if not n:
        return []
    span = arrival_ns // FRAME_NS
    begins = np.flatnonzero(np.diff(span, prepend=span[0] - 1))
    place = np.arange(n) - np.repeat(begins, np.diff(begins, append=n))
    edges = np.append(np.flatnonzero(place % FRAME_EVENTS == 0), n).astype(np.int32)
    grouped: Any = pa.ListArray.from_arrays(pa.array(edges, pa.int32()), events)
    packed: Any = join("[", pc.binary_join(grouped, ","), "]").cast(pa.binary())
    whole: list[bytes] = packed.to_pylist()
    return whole


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

    def __init__(self, board: Board) -> None:
        self.board = board
        self.symbols = board.symbols()
        self.last = np.zeros((4, board.count), np.int64)  # price, time, size, exchange; of the last trade
        self.volume = np.zeros(board.count, np.int64)

    def record(self, trades: OptionTrades) -> None:
        news = ~trades.repeated
        number = trades.number[news]
        when = trades.arrival_ns - trades.late_ns
        for row, column in zip(self.last, (trades.price, when, trades.size, trades.exchange), strict=True):
            row[number] = column[news]
        np.add.at(self.volume, number, trades.size[news])

    def rows(self, worth: Worth, bid: NDArray[np.int64], ask: NDArray[np.int64], spot_e4: int, at_ns: int) -> list[str]:
        """Return each contract that has not expired, as the vendor's JSON; some have no greeks, most no oddity."""
        board = self.board
        whole = {
            name: np.rint(getattr(worth, name) * 1_000_000).astype(np.int64).tolist()
            for name in ("delta", "gamma", "theta", "vega", "volatility")
        }
        strikes, calls, bids, asks = board.strikes.tolist(), board.is_call.tolist(), bid.tolist(), ask.tolist()
        last, volume = self.last.T.tolist(), self.volume.tolist()
        alive = (board.expiration_ns > at_ns).tolist()
        dates = [f"20{one.code[5:7]}-{one.code[7:9]}-{one.code[9:11]}" for one in board.series]
        spot = ten_thousandths(spot_e4)
        rows = []
        for i in range(board.count):
            if not alive[i]:
                continue
            known = i % _NO_CHAIN_EVERY != 5
            greeks = (
                f'{{"delta":{_millionths(whole["delta"][i])},"gamma":{_millionths(whole["gamma"][i])},'
                f'"theta":{_millionths(whole["theta"][i])},"vega":{_millionths(whole["vega"][i])}}}'
                if known else "{}"
            )  # fmt: skip
            volatility = f'"implied_volatility":{_millionths(whole["volatility"][i])},' if known else ""
            price, when, size, exchange = last[i]
            day = traded = ""
            if when:
                day = f'"close":{cents(price)},"last_updated":{when},"volume":{volume[i]}'
                traded = (
                    f'"last_trade":{{"conditions":[209],"exchange":{exchange},"price":{cents(price)},'
                    f'"sip_timestamp":{when},"size":{size},"timeframe":"REAL-TIME"}},'
                )
            middle = repr((bids[i] + asks[i]) / 200)
            strike, kind = strikes[i], "call" if calls[i] else "put"
            even = cents(strike * 100 + (asks[i] if calls[i] else -asks[i]))
            rows.append(
                f'{{"break_even_price":{even},"day":{{{day}}},"details":{{"contract_type":"{kind}",'
                f'"exercise_style":"american","expiration_date":"{dates[i // (2 * STRIKES)]}",'
                f'"shares_per_contract":100,"strike_price":{strike},"ticker":"{self.symbols[i]}"}},"greeks":{greeks},{volatility}'
                f'"last_quote":{{"ask":{cents(asks[i])},"ask_size":{10 + i % 90},"bid":{cents(bids[i])},'
                f'"bid_size":{10 + i * 7 % 90},"last_updated":{at_ns - i * 101_009 % 50_000_000},"midpoint":{middle},'
                f'"timeframe":"REAL-TIME"}},{traded}"open_interest":{i * 7_919 % 20_000},'
                f'"underlying_asset":{{"last_updated":{at_ns},"price":{spot},"ticker":"SPY",'
                f'"timeframe":"REAL-TIME"}}}}'
            )
        return rows


def _millionths(value: int) -> str:
    sign, size = "-" if value < 0 else "", abs(value)
    return f"{sign}{size // 1_000_000}.{size % 1_000_000:06d}"
