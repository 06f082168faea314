"""Writes the simulated market as genuine DBN version 3: the header, the announcements of instruments, the events.

An event is one MBP-10 record with the book after it. A trade is three records, as the vendor sends it: a trade
record, an MBP-10 record with action T and the book before it, both with no flags, then the MBP-10 record of the
reduced book, flagged last of its event; all three share `ts_event`, `ts_recv` and `sequence`. Where several levels
are taken in one instant, the prints come first, each with the book that the instant found, then the books, of which
the last alone is flagged.

A spread's definition is one record per leg, as version 3 has it. Of options there are definitions and trades, no books;
`dbn_quotes` has their quotes, `dbn_numbers` what the exchange says of its sessions.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import databento_dbn
import numpy as np
from numpy.typing import NDArray

from spymaster.clock import NS_PER_DAY
from spymaster.simulation.book import BOOK_WORDS, Tape
from spymaster.simulation.calendar import Contract, utc_date
from spymaster.simulation.held import ASK, BID, NEITHER
from spymaster.simulation.options import STRIKES, Board

OUTRIGHT_TICK_E9, SPREAD_TICK_E9, OPTION_TICK_E9 = 250_000_000, 50_000_000, 50_000_000
PARENT_SYMBOL = "ES.FUT"

_PUBLISHER_ID = 1  # GLBX.MDP3
_F_LAST = 128
_UNDEF_PRICE = np.iinfo(np.int64).max
_UNDEF_I32 = np.iinfo(np.int32).max
_STYPE_RAW_SYMBOL, _STYPE_PARENT = 1, 4
_DEFINITION = np.dtype(databento_dbn.InstrumentDefMsg._dtypes)
_MAPPING = np.dtype(databento_dbn.SymbolMappingMsg._dtypes)
_TRADE = np.dtype(databento_dbn.TradeMsg._dtypes)
_MBP10 = np.dtype(databento_dbn.MBP10Msg._dtypes)
_STATUS = np.dtype(databento_dbn.StatusMsg._dtypes)
_TRADE_WORDS, _MBP10_WORDS = _TRADE.itemsize // 8, _MBP10.itemsize // 8
# A trade record is what an MBP-10 record begins with. As bytes without fields, which numpy copies much faster.
_HEAD, _TEN_LEVELS = np.dtype(f"V{_TRADE.itemsize}"), np.dtype(f"V{8 * BOOK_WORDS}")
# What the exchange and the vendor leave undefined in the definition of an ES future.
_COMMON_DEFINITION: dict[str, Any] = {
    "length": _DEFINITION.itemsize // 4, "rtype": 19, "publisher_id": _PUBLISHER_ID, "display_factor": 10_000_000,
    "high_limit_price": _UNDEF_PRICE, "low_limit_price": _UNDEF_PRICE, "price_ratio": _UNDEF_PRICE,
    "strike_price": _UNDEF_PRICE, "leg_price": _UNDEF_PRICE, "leg_delta": _UNDEF_PRICE, "market_depth": 10,
    "market_segment_id": 64, "min_trade_vol": 1, "contract_multiplier": _UNDEF_I32, "decay_quantity": _UNDEF_I32,
    "original_contract_size": _UNDEF_I32, "appl_id": 310, "decay_start_date": 65535, "maturity_day": 255,
    "maturity_week": 255, "currency": b"USD", "group": b"ES", "exchange": b"XCME", "asset": b"ES",
    "security_type": b"FUT", "match_algorithm": b"F", "main_fraction": 255, "price_display_format": 255,
    "sub_fraction": 255, "underlying_product": 5, "security_update_action": b"A", "user_defined_instrument": b"N",
    "contract_multiplier_unit": 127, "flow_schedule_type": 127, "tick_rule": 255, "leg_side": b"N",
}  # fmt: skip
_OUTRIGHT_DEFINITION: dict[str, Any] = {
    "instrument_class": b"F", "cfi": b"FFIXSX", "min_price_increment": OUTRIGHT_TICK_E9,
    "min_price_increment_amount": 125_000_000, "unit_of_measure_qty": 50_000_000_000, "unit_of_measure": b"IPNT",
    "max_price_variation": 6_000_000_000, "max_trade_vol": 3_000, "inst_attrib_value": 270_351,
}  # fmt: skip
_SPREAD_DEFINITION: dict[str, Any] = {
    "instrument_class": b"S", "cfi": b"FMIXSX", "secsubtype": b"EQ", "min_price_increment": SPREAD_TICK_E9,
    "min_price_increment_amount": _UNDEF_PRICE, "unit_of_measure_qty": _UNDEF_PRICE, "unit_of_measure": b"CTRCT",
    "max_price_variation": 1_500_000_000, "max_trade_vol": 15_000, "inst_attrib_value": 271_371,
    "leg_count": 2, "leg_ratio_qty_numerator": 1, "leg_ratio_qty_denominator": 1, "leg_instrument_class": b"F",
}  # fmt: skip


_OPTION_DEFINITION: dict[str, Any] = {
    "min_price_increment": OPTION_TICK_E9, "min_price_increment_amount": 0, "unit_of_measure_qty": 50_000_000_000,
    "unit_of_measure": b"IPNT", "max_price_variation": _UNDEF_PRICE, "max_trade_vol": 3_000, "market_depth": 3,
    "inst_attrib_value": 270_339, "market_segment_id": 54, "appl_id": 311, "security_type": b"OOF", "group": b"EW",
    "strike_price_currency": b"USD", "tick_rule": 4,
}  # fmt: skip
HALTED, TRADING = 8, 7  # actions of a status record


class Listing(NamedTuple):
    """The instruments of one UTC day: the front month, the next one and their spread, in this order everywhere.

    The options follow: option number i has the id `instrument_ids[3 + i]`.
    """

    front: Contract
    next: Contract
    instrument_ids: tuple[int, ...]
    options: Board

    @property
    def symbols(self) -> tuple[str, str, str]:
        return self.front.symbol, self.next.symbol, f"{self.front.symbol}-{self.next.symbol}"


class Records(NamedTuple):
    """DBN records back to back; `ends[i]` is the byte after the last record of event i."""

    data: memoryview
    ends: NDArray[np.int64]


def live_header() -> bytes:
    """Return the metadata header that a live gateway sends: it names no schema and no symbol."""
    return databento_dbn.Metadata(
        dataset="GLBX.MDP3", start=0, stype_in=None, stype_out=databento_dbn.SType.from_str("instrument_id"),
        schema=None, symbols=[], partial=[], not_found=[], mappings=[], version=3,
    ).encode()  # fmt: skip


def listing_of(front: Contract, day: date, options: Board) -> Listing:
    """Return the day's instruments. An id is valid for its UTC day: the spread's is the front month's a day later."""
    first_id = 10_000 + 2 * (day.toordinal() % 20_000)
    first_option = 1_000_000 + 100 * (day.toordinal() % 20_000)
    ids = (first_id, first_id + 1, first_id + 2, *range(first_option, first_option + options.count))
    return Listing(front, front.quarters_later(1), ids, options)


def announce(listing: Listing, ts_event: int, ts_recv: int) -> bytes:
    """Return the symbol mappings, then the definitions of a day's instruments."""
    options = listing.options.symbols()
    mappings = np.zeros(3 + len(options), _MAPPING)
    midnight = ts_event - ts_event % NS_PER_DAY
    mappings["length"], mappings["rtype"], mappings["ts_event"] = _MAPPING.itemsize // 4, 22, ts_event
    mappings["instrument_id"], mappings["stype_in"] = listing.instrument_ids, _STYPE_PARENT
    mappings["stype_in_symbol"] = [PARENT_SYMBOL] * 3 + [f"{symbol.split()[0][:-2]}.OPT" for symbol in options]
    mappings["stype_out"], mappings["stype_out_symbol"] = _STYPE_RAW_SYMBOL, [*listing.symbols, *options]
    mappings["start_ts"], mappings["end_ts"] = midnight, midnight + NS_PER_DAY
    definitions = np.zeros(4, _DEFINITION)
    front_id, next_id, spread_id = listing.instrument_ids[:3]
    _define_outright(definitions[0], listing.front, front_id)
    _define_outright(definitions[1], listing.next, next_id)
    # An equity spread is quoted as the later month minus the earlier one, so its buyer sells the earlier one.
    _define_leg(definitions[2], listing, spread_id, 0, (front_id, listing.front, b"A"))
    _define_leg(definitions[3], listing, spread_id, 1, (next_id, listing.next, b"B"))
    described = np.concatenate([definitions, _define_options(listing, options)])
    described["ts_event"], described["ts_recv"] = ts_event, ts_recv
    return mappings.tobytes() + described.tobytes()


def status(instrument_ids: Sequence[int], action: int, ts_event: int, ts_recv: int) -> bytes:
    """Return what a venue sends when it halts or resumes trading: a status record for each instrument."""
    records = np.zeros(len(instrument_ids), _STATUS)
    records["length"], records["rtype"], records["publisher_id"] = _STATUS.itemsize // 4, 18, _PUBLISHER_ID
    records["instrument_id"], records["ts_event"], records["ts_recv"] = instrument_ids, ts_event, ts_recv
    going = b"Y" if action == TRADING else b"N"
    records["action"], records["is_trading"], records["is_quoting"] = action, going, going
    records["is_short_sell_restricted"] = b"~"
    return records.tobytes()


def _define_options(listing: Listing, symbols: list[str]) -> NDArray[np.void]:
    board, ids = listing.options, dict(zip(listing.symbols, listing.instrument_ids, strict=False))
    definitions = np.zeros(board.count, _DEFINITION)
    for name, value in (_COMMON_DEFINITION | _OPTION_DEFINITION).items():
        definitions[name] = value
    per_series = 2 * STRIKES
    definitions["instrument_id"] = definitions["raw_instrument_id"] = listing.instrument_ids[3:]
    definitions["raw_symbol"], definitions["strike_price"] = symbols, board.strikes * 1_000_000_000
    definitions["instrument_class"] = np.where(board.is_call, b"C", b"P")
    for number, series in enumerate(board.series):
        mine = slice(number * per_series, (number + 1) * per_series)
        american = series.code.startswith("ES")
        definitions["cfi"][mine] = np.where(board.is_call[mine], b"OC", b"OP")
        definitions["cfi"][mine] = np.char.add(definitions["cfi"][mine], b"AFPS" if american else b"EFPS")
        definitions["asset"][mine] = series.code[:-2].encode()
        definitions["expiration"][mine] = series.expiration_ns
        definitions["activation"][mine] = series.expiration_ns - 21 * NS_PER_DAY
        definitions["underlying"][mine] = series.written_on.encode()
        definitions["underlying_id"][mine] = ids.get(series.written_on, 0)
        day = utc_date(series.expiration_ns)
        definitions["maturity_year"][mine], definitions["maturity_month"][mine] = day.year, day.month
        definitions["maturity_day"][mine] = day.day
    return definitions


def _define_outright(row: np.void, contract: Contract, instrument_id: int) -> None:
    _fill(row, _COMMON_DEFINITION | _OUTRIGHT_DEFINITION | _life_of(contract) | {
        "instrument_id": instrument_id, "raw_instrument_id": instrument_id, "raw_symbol": contract.symbol.encode(),
    })  # fmt: skip


def _define_leg(row: np.void, listing: Listing, spread_id: int, index: int, leg: tuple[int, Contract, bytes]) -> None:
    leg_id, contract, side = leg
    _fill(row, _COMMON_DEFINITION | _SPREAD_DEFINITION | _life_of(listing.front) | {
        "instrument_id": spread_id, "raw_instrument_id": spread_id, "raw_symbol": listing.symbols[2].encode(),
        "activation": listing.next.activation_ns, "leg_index": index, "leg_instrument_id": leg_id,
        "leg_raw_symbol": contract.symbol.encode(), "leg_side": side,
    })  # fmt: skip


def _life_of(contract: Contract) -> dict[str, Any]:
    return {
        "expiration": contract.expiration_ns, "activation": contract.activation_ns,
        "maturity_year": contract.year, "maturity_month": contract.month,
    }  # fmt: skip


def _fill(row: np.void, values: dict[str, Any]) -> None:
    for name, value in values.items():
        row[name] = value


class Encoder:
    """Turns tapes into records. Carries what a channel carries: its packet counter and the last receive time."""

    def __init__(self, entropy: Sequence[int]) -> None:
        self._random = np.random.PCG64(np.random.SeedSequence(tuple(entropy)))
        self._sequence = 0
        self._last_recv = 0

    def received(self, ts_event: int) -> int:
        """Return when a record of `ts_event` that no tape holds is received."""
        self._last_recv = max(self._last_recv, ts_event + 80_000)
        return self._last_recv

    def encode(self, tape: Tape, instrument_ids: tuple[int, ...]) -> Records:
        """Write the records of the tape's events, in its order."""
        traded = (tape.traded > 0) & ~tape.print_only
        events = self._events(tape, instrument_ids)
        heads, books = events.view(_HEAD), tape.levels.view(_TEN_LEVELS)[:, 0]
        words = np.where(tape.print_only, _TRADE_WORDS, _MBP10_WORDS) + traded * (_TRADE_WORDS + _MBP10_WORDS)
        ends = np.cumsum(words)
        data = np.empty(int(ends[-1]) if len(ends) else 0, np.uint64)
        prints = self._prints(events[traded], tape.traded[traded])
        at, own_at = (ends - words)[traded], ends - _MBP10_WORDS
        if not tape.last.all():
            at, own_at = prints_first(tape.last, traded, ends - words, (_TRADE_WORDS + _MBP10_WORDS, _MBP10_WORDS))
        _write(data, at + _TRADE_WORDS, prints.view(_HEAD), books[tape.before[traded]])
        prints["length"], prints["rtype"] = _TRADE.itemsize // 4, 0
        _write(data, at, prints.view(_HEAD))
        own = ~tape.print_only
        _write(data, own_at[own], heads[own], books[tape.after[own]])
        alone = events[tape.print_only]
        alone["length"], alone["rtype"], alone["flags"] = _TRADE.itemsize // 4, 0, 0
        _write(data, ends[tape.print_only] - _TRADE_WORDS, alone.view(_HEAD))
        return Records(data.data.cast("B"), instant_ends(tape.last, ends) * 8)

    def _events(self, tape: Tape, instrument_ids: tuple[int, ...]) -> NDArray[np.void]:
        """Return the first 48 bytes of the MBP-10 record that ends each event."""
        n = len(tape.traded)
        drawn = self._random.random_raw(n)
        lateness = (drawn & 0xFFFF) ** 2 >> 16  # squared, so that most are near the least
        received = tape.arrival_ns + (80_000 + (lateness * 220_000 >> 16)).astype(np.int64)
        sequence = self._sequence + np.cumsum(1 + (drawn >> 60 == 0))  # other instruments' packets are not ours
        events = np.empty(n, _TRADE)
        events["length"], events["rtype"], events["publisher_id"] = _MBP10.itemsize // 4, 10, _PUBLISHER_ID
        events["instrument_id"] = np.array(instrument_ids)[tape.instrument]
        events["ts_event"] = tape.arrival_ns - tape.late_ns
        events["price"], events["size"] = tape.price_e9, tape.size
        events["action"], events["side"] = tape.action, _letters(tape.side)
        events["flags"], events["depth"] = np.where(tape.last, _F_LAST, 0), tape.depth
        received = np.maximum(np.maximum.accumulate(received), self._last_recv)
        events["ts_recv"] = instant_ends(tape.last, received)
        events["ts_in_delta"] = 13_000 + ((drawn >> 16 & 0xFFFF) * 13_000 >> 16)
        events["sequence"] = instant_ends(tape.last, sequence) & 0xFFFFFFFF  # the venue restarts it too, weekly
        if n:
            self._sequence, self._last_recv = int(sequence[-1]), int(events["ts_recv"][-1])
        again = np.flatnonzero(tape.repeated)
        events[again] = events[again - 1]
        return events

    @staticmethod
    def _prints(events: NDArray[np.void], traded: NDArray[np.int64]) -> NDArray[np.void]:
        """Return the first 48 bytes of the records that report a trade; their side is the aggressor's."""
        events["action"], events["flags"], events["size"] = b"T", 0, traded
        events["side"] = np.where(events["side"] == b"A", b"B", b"A")
        return events


def _write(
    data: NDArray[np.uint64], at: NDArray[np.int64], heads: NDArray[np.void], books: NDArray[np.void] | None = None
) -> None:
    """Write records, with their books or without, where the words of `data` are that `at` numbers."""
    for first, part in ((0, heads), (_TRADE_WORDS, books)):
        if part is not None and len(part):
            words = part.itemsize // 8
            # A part may begin at every word, so that these overlap; numpy copies each as a whole.
            places = np.ndarray(len(data) - words + 1, part.dtype, data, 0, (8,))
            places[at + first] = part


def instant_ends(last: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any]:
    """Return for each event the value of the last one of its instant."""
    if last.all():
        return values
    at = np.flatnonzero(last)
    ends: NDArray[Any] = values[at[np.searchsorted(at, np.arange(len(last)))]]
    return ends


def prints_first(
    last: NDArray[np.bool_], traded: NDArray[np.bool_], begins: NDArray[np.int64], sizes: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where prints and books are, if within an instant all prints come before all books.

    Args:
        last: of each event, whether it is the last of its instant.
        traded: of each event, whether it has a print.
        begins: where each event is if its print and its book follow each other.
        sizes: of a print and of a book.

    Returns:
        Where the prints of those events are that have one, and where the books of all events are.
    """
    begun = np.concatenate([[True], last[:-1]])
    first, instant = np.flatnonzero(begun), np.cumsum(begun) - 1
    base, rank = begins[first][instant], np.arange(len(last)) - first[instant]
    printed: NDArray[np.int64] = np.cumsum(traded) - traded
    before: NDArray[np.int64] = printed - printed[first][instant]
    count = np.add.reduceat(traded.astype(np.int64), first)[instant]
    return (base + before * sizes[0])[traded], base + count * sizes[0] + rank * sizes[1]


def _letters(side: NDArray[np.int64]) -> NDArray[np.bytes_]:
    letters = np.empty(3, "S1")
    letters[BID], letters[ASK], letters[NEITHER] = b"B", b"A", b"N"
    return letters[side]
