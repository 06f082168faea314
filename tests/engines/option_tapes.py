"""The simulator's option market as rows of the log, without the bytes between, and what is true of its prints.

That the normalizers make the same of the bytes is tested in `test_option_rows.py`.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from spymaster.clock import NS_PER_MS, NS_PER_SECOND
from spymaster.engines.board import Board, Spots
from spymaster.engines.dealer import Dealer
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.option_rows import option_rows
from spymaster.engines.rows import NO_PRICE
from tests.engines.tapes import joined, rows_of

NO_SIDE = 0


class Tape(NamedTuple):
    """One underlying's option market: columns of its prints, its quotes and its spots, and its board."""

    root: str
    board: Any
    prints: dict[str, Any]
    quotes: dict[str, Any]
    spots: Spots
    truths: list[dict[str, Any]]


def recorded(market: Any, seconds: float, root: str) -> Tape:
    """Run a simulated market and keep the options of SPY or ES, as they happened; times of SPY are milliseconds."""
    session = market.session(with_spy=root == "SPY")
    trades, quotes, spots, truths, board = [], [], [], [], None
    for step in session.steps():
        if step.begin >= market.start_ns + seconds * NS_PER_SECOND:
            break
        while session.truths:
            truths.append(session.truths.popleft())
        board = board or (step.spy if root == "SPY" else step.listing.options)
        traded, quoted = (step.options, step.spy_quotes) if root == "SPY" else (step.es_options, step.es_quotes)
        trades += [] if traded is None else [traded]
        quotes += [] if quoted is None else [quoted]
        if root == "ES":
            rows = joined([rows_of(tape) for tape in step.tapes]) if step.tapes else None
            if rows is not None:
                bid, ask = rows.bid_px[:, 0], rows.ask_px[:, 0]
                sound = (bid != NO_PRICE) & (ask != NO_PRICE) & (bid < ask)
                spots.append((rows.ts_ns[sound], (bid[sound] + ask[sound]) / 8))
        elif step.quotes is not None:
            stock = step.quotes
            ts = (stock.arrival_ns - getattr(stock, "late_ns", 0)) // NS_PER_MS * NS_PER_MS
            spots.append((ts, (stock.bid + stock.ask) / 200))
    ts, price = (np.concatenate(column) for column in zip(*spots, strict=True))
    order = np.argsort(ts, kind="stable")
    unit = NS_PER_MS if root == "SPY" else 1
    return Tape(
        root,
        board,
        _columns(trades, unit),
        _columns(quotes, unit),
        Spots(ts[order], price[order], root == "ES"),
        truths,
    )


def _columns(pieces: list[Any], unit: int) -> dict[str, Any]:
    columns = {name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in pieces[0]._fields}
    columns["ts_ns"] = (columns["arrival_ns"] - columns["late_ns"]) // unit * unit
    return columns


def _described(tape: Tape, number: Any) -> dict[str, Any]:
    board = tape.board
    symbols, rights = pa.array(board.symbols()), pa.array(np.where(board.is_call, "C", "P"))
    days = (board.expiration_ns // (86_400 * NS_PER_SECOND)).astype(np.int32)
    return {
        "option_symbol": symbols.take(pa.array(number)),
        "strike": pa.array(board.strikes[number].astype(np.float64)),
        "right": rights.take(pa.array(number)),
        "exp_date": pa.array(days[number], pa.int32()).cast(pa.date32()),
    }


def _keyed(ts_ns: Any) -> dict[str, Any]:
    n = len(ts_ns)
    return {
        "ts_event_ns": pa.array(ts_ns),
        "capture_id": pa.array(np.full(n, 7)),
        "capture_seq": pa.array(np.arange(n)),
    }


def _prices(tape: Tape, ticks: Any) -> Any:
    """Return prices as a vendor's decimals give them; 0 is none."""
    per_unit = 100 if tape.root == "SPY" else 20
    return pa.array(ticks / per_unit, mask=ticks == 0)


def trade_batch(tape: Tape, *, said: bool = False, given: bool = False) -> pa.RecordBatch:
    """Return the prints; with the venue's aggressor if `said`, with bid and ask of the time if `given`."""
    one = tape.prints
    nothing = pa.nulls(len(one["price"]), pa.float64())
    return pa.RecordBatch.from_pydict({
        **_keyed(one["ts_ns"]), **_described(tape, one["number"]),
        "price": pa.array(one["price"] / (100 if tape.root == "SPY" else 20)),
        "size": pa.array(one["size"], pa.int32()),
        "opt_bid": _prices(tape, one["bid"]) if given else nothing,
        "opt_ask": _prices(tape, one["ask"]) if given else nothing,
        "aggressor": pa.array(one["side"] * said, pa.int8()),
    })  # fmt: skip


def quote_batch(tape: Tape) -> pa.RecordBatch:
    """Return the quotes."""
    one = tape.quotes
    return pa.RecordBatch.from_pydict({
        **_keyed(one["ts_ns"]), **_described(tape, one["number"]),
        "bid_px": _prices(tape, one["bid"]), "ask_px": _prices(tape, one["ask"]),
    })  # fmt: skip


def definition_batch(tape: Tape, multiplier: float) -> pa.RecordBatch:
    """Return the definitions, of what the first expiration is written on."""
    board, number = tape.board, np.arange(tape.board.count)
    described = _described(tape, number)
    written = [one.written_on for one in board.series for _ in range(board.count // len(board.series))]
    return pa.RecordBatch.from_pydict({
        **_keyed(np.full(len(number), tape.prints["ts_ns"].min() - NS_PER_SECOND)),
        "contract": described["option_symbol"], "strike": described["strike"], "instrument_class": described["right"],
        "expiration_ns": pa.array(board.expiration_ns), "underlying": pa.array(written),
        "unit_of_measure_qty": pa.array(np.full(len(number), multiplier)),
    })  # fmt: skip


def interest_batch(tape: Tape, interest: Any) -> pa.RecordBatch:
    """Return statistics that say each option's open interest."""
    number = np.arange(tape.board.count)
    described = _described(tape, number)
    described["contract"] = described.pop("option_symbol")
    return pa.RecordBatch.from_pydict({
        **_keyed(np.full(len(number), tape.prints["ts_ns"].min() - NS_PER_SECOND)), **described,
        "kind": pa.array(["open_interest"] * len(number)), "price": pa.nulls(len(number), pa.float64()),
        "quantity": pa.array(interest), "update_code": pa.array(np.ones(len(number)), pa.int16()),
    })  # fmt: skip


def snaps(tape: Tape, batches: dict[str, pa.RecordBatch], every_ns: int = SNAP_NS) -> Any:
    """Yield each snap with its rows of the schemas by event time, and its spots; none is late."""
    first = tape.prints["ts_ns"].min() // every_ns * every_ns
    edges = np.arange(first, tape.prints["ts_ns"].max() + every_ns, every_ns)
    sorted_ = {}
    for name, given in batches.items():
        batch = given.take(pa.array(np.argsort(given.column("ts_event_ns").to_numpy(), kind="stable")))
        sorted_[name] = batch, np.searchsorted(batch.column("ts_event_ns").to_numpy(), edges, side="right")
    at = np.searchsorted(tape.spots.ts_ns, edges, side="right")
    before = dict.fromkeys(batches, 0)
    before_spot = 0
    for place, edge in enumerate(edges.tolist()):
        found = {}
        for name, (batch, ends) in sorted_.items():
            if ends[place] > before[name]:
                found[name] = [batch.slice(before[name], ends[place] - before[name])]
                before[name] = ends[place]
        spots = Spots(*(c[before_spot : at[place]] for c in tape.spots[:2]), tape.spots.included)
        before_spot = at[place]
        yield edge, found, spots


def run(tape: Tape, rules: Any, tick: float, batches: dict[str, pa.RecordBatch], every_ns: int = SNAP_NS) -> Any:
    """Run board and dealer over a tape; return them, the prints as they were understood, and the turns."""
    board = Board(rules, tape.board.series[0].written_on)
    dealer, valued, turns, spot = Dealer(rules, tick), [], [], None
    for snap_ns, found, spots in snaps(tape, batches, every_ns):
        prints = board.work(snap_ns, option_rows(found), spots)
        spot = float(spots.price[-1]) if len(spots.price) else spot
        dealer.work(snap_ns, prints, board, spot)
        valued.append(prints)
        if dealer.turns.newest is not None and dealer.turns.newest.snap_ns == snap_ns:
            turns.append(dealer.turns.newest)
    whole = type(valued[0])(*(np.concatenate(column) for column in zip(*valued, strict=True)))
    return board, dealer, whole, turns
