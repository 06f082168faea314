"""Symmetry of the options, through the whole judge: calls and puts swapped, and the market mirrored about a price.

Black-76 knows no mirror: its logarithm makes a strike below the price another thing than one as far above. Two things
hold in every bit nevertheless. Where volatilities are said, so that none is made of a premium, calls and puts may
change their names: the position of dealers by open interest and volume has the other sign, its walls are each other's,
and all that is of flow is as it was. And with a model in its place that does know a mirror, the whole market may be
turned over, premiums, quotes and implied volatilities and all: so nothing but the model tells up from down.
"""

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from spymaster.engines import option_model
from spymaster.engines.judge import Judge
from spymaster.engines.option_model import GAMMA_SCALE, Worth
from spymaster.engines.option_rows import SCHEMAS
from spymaster.engines.profile import profile_named
from spymaster.engines.rows import book_rows
from spymaster.events import OPTIONS_GREEKS_SNAPSHOTS, OPTIONS_TRADES, Stream
from spymaster.query.sessions import session_at
from tests.engines.books import OPEN_NS, batch, listed, mirrored
from tests.engines.leaving import BOOKS, FRONT, SECOND, judged, simulated_streams
from tests.signals.recordings import stored

SECONDS = 26  # a flow that is planted has turned by then
MIDDLE = 6_920.0  # points about which the market is mirrored: a strike, and a round level, and no wall
ES = profile_named("ES")
OFTEN = ES.model_copy(update={"options": ES.options.model_copy(update={"profile_s": 5})})  # looks at what is open
TURN_TICKS = round(2 * MIDDLE / 0.25)
TERMS = ("underlying", "option_symbol", "strike", "right", "exp_date")
SWAPPED = {"C": "P", "P": "C", None: None}


@cache
def market():
    """Return rows of options, in which a flow turns, and of the book."""
    streams = simulated_streams(SECONDS, 300, ("turns",), 4)
    books = listed(book_rows([part for stream, part in streams if stream == BOOKS], FRONT, 0.25)[0])
    names = {schema.name for schema in SCHEMAS}
    return [(stream, uneven(part)) for stream, part in streams if stream.schema in names], books


def uneven(part):
    """Return statistics of calls above and puts below alone, so that walls are apart; other rows as they are."""
    if "kind" not in part.schema.names:
        return part
    above, call = pc.greater(part.column("strike"), 6_900.0), pc.equal(part.column("right"), "C")
    return part.filter(pc.fill_null(pc.equal(above, call), True))


def told(one):
    """Return the prints of which the venue says who began them; a volatility of another right is another one."""
    stream, part = one
    if stream.schema != OPTIONS_TRADES.name:
        return one
    return stream, part.filter(pc.not_equal(part.column("aggressor"), 0))


def greeks(options):
    """Return each option's volatility of each second, so that every print has one that was said."""
    trades = pa.Table.from_batches([part for stream, part in options if stream.schema == OPTIONS_TRADES.name])
    each = {row["option_symbol"]: row for row in trades.select(TERMS).to_pylist()}
    rows = [
        row | {"ts_event_ns": at, "ts_recv_ns": at, "source": "sim", "capture_id": 9, "implied_volatility": vol}
        for second in range(SECONDS + 1)
        for at in [OPEN_NS + second * SECOND]
        for row in each.values()
        for vol in [0.12 + abs(row["strike"] - MIDDLE) / 4_000 + second / 10_000]
    ]
    rows = [row | {"capture_seq": number} for number, row in enumerate(rows)]
    made = stored(pa.RecordBatch.from_pylist(rows, schema=OPTIONS_GREEKS_SNAPSHOTS.log))
    return [(Stream(OPTIONS_GREEKS_SNAPSHOTS.name, "ES"), made)]


def renamed(part, strike_of):
    """Return rows of options with every call a put and every put a call, of another strike."""
    for name in ("option_symbol", "contract"):
        if name in part.schema.names:
            part = _set(part, name, [_renamed(symbol, strike_of) for symbol in part.column(name).to_pylist()])
    for name in ("right", "instrument_class"):
        if name in part.schema.names:
            part = _set(part, name, [SWAPPED.get(letter, letter) for letter in part.column(name).to_pylist()])
    strikes = part.column("strike").to_pylist()
    return _set(part, "strike", [None if strike is None else strike_of(strike) for strike in strikes])


def _renamed(symbol, strike_of):
    if symbol is None or " " not in symbol:
        return symbol
    family, rest = symbol.split(" ")
    return f"{family} {SWAPPED[rest[0]]}{strike_of(float(rest[1:])):g}"


def _set(part, name, values):
    at = part.schema.get_field_index(name)
    return part.set_column(at, part.schema.field(at), pa.array(values, part.schema.field(at).type))


def gammas(options, books):
    """Return what the options say at each snap: all of them left before the first book."""
    made = Judge(OFTEN, [session_at(OPEN_NS, "cme")], FRONT)
    snaps = judged([*options, (BOOKS, batch(books, contract=FRONT))], made)
    return [(snap.spot, snap.gamma, snap.levels) for snap in snaps if snap.spot is not None]


def same_bits(*pairs):
    return all(np.asarray(one).tobytes() == np.asarray(other).tobytes() for one, other in pairs)


OF_FLOW = ("pressure", "pressure_change", "turn_ns", "turn", "looked_ns")


def assert_turned(one, other, turn, order):
    """Assert that dealers hold the opposite by open interest and volume, and the same by flow."""
    assert same_bits((turn(one.strikes.strike)[order], other.strikes.strike))
    for name, opposite in (
        ("calls", "puts"), ("puts", "calls"), ("calls_by_volume", "puts_by_volume"),
        ("puts_by_volume", "calls_by_volume"),
    ):  # fmt: skip
        found, expected = getattr(other.strikes, name), -getattr(one.strikes, opposite)[order]
        assert found.tolist() == expected.tolist(), name
    for name in ("flow", "flow_open"):
        assert getattr(other.strikes, name).tolist() == getattr(one.strikes, name)[order].tolist(), name
    assert [getattr(one, name) for name in OF_FLOW] == [getattr(other, name) for name in OF_FLOW]
    assert same_bits(*zip(one.fuel, other.fuel, strict=True))
    walls = [None if wall is None else turn(wall) for wall in one.walls[::-1]]
    assert walls == list(other.walls)
    assert str(one.shares) == str(other.shares)


def test_calls_and_puts_that_change_their_names_turn_the_position_and_leave_the_flow():
    options, books = market()
    options = [*map(told, options), *greeks(options)]
    swapped = [(stream, renamed(part, lambda strike: strike)) for stream, part in options]
    ones, others = gammas(options, books), gammas(swapped, books)

    assert len(ones) == len(others) > 4 * SECONDS - 10
    for (_, one, levels), (_, other, turned) in zip(ones, others, strict=True):
        assert_turned(one, other, lambda strike: strike, slice(None))
        assert one.flip == other.flip
        for name in ("fuel", "fuel_net", "fuel_error", "points_fuel", "score", "gamma_flow", "gamma_flow_open"):
            assert levels.column(name).equals(turned.column(name)), name
        for name in ("gamma_open_interest", "gamma_volume"):
            assert pc.negate(levels.column(name)).equals(turned.column(name))
    _, last, levels = ones[-1]
    assert None not in last.walls
    assert last.strikes.by_volume.any()
    assert last.walls.call != last.walls.put
    assert last.turn is not None
    assert last.shares.vol_from[0] > 0.9 * last.shares.prints > 100
    assert levels.column("gamma_open_interest").null_count < levels.num_rows


def test_with_a_model_that_knows_a_mirror_the_mirrored_market_has_the_mirrored_gamma(monkeypatch):
    monkeypatch.setattr(option_model, "implied", even_vol)
    monkeypatch.setattr(option_model, "value", even_worth)
    monkeypatch.setattr(option_model, "gamma_profile", even_profile)
    options, books = market()
    other_way = [(stream, renamed(part, lambda strike: 2 * MIDDLE - strike)) for stream, part in options]
    ones, others = gammas(options, books), gammas(other_way, shifted(mirrored(books)))

    assert len(ones) == len(others) > 4 * SECONDS - 10
    for (spot, one, levels), (other_spot, other, turned) in zip(ones, others, strict=True):
        assert other_spot == 2 * MIDDLE - spot
        assert_turned(one, other, lambda strike: 2 * MIDDLE - strike, slice(None, None, -1))
        assert (one.flip is None) == (other.flip is None)
        if one.flip is not None:
            assert other.flip == pytest.approx(2 * MIDDLE - one.flip, abs=1e-8)  # of a straight line, read backwards
        assert fuel_by_price(levels, lambda price: 2 * MIDDLE - price) == fuel_by_price(turned, lambda price: price)
    _, last, _ = ones[-1]
    assert None not in (*last.walls, last.turn, last.flip)
    assert MIDDLE not in last.walls
    assert min(last.shares.how[[0, 1, 4]]) > 0


def fuel_by_price(levels, turn):
    """Return the fuel at each strike that is a level."""
    names = ("price", "kinds", "fuel", "fuel_net", "fuel_error", "fuel_prints", "gamma_flow")
    return {
        turn(row["price"]): [*row.values()][2:] for row in levels.select(names).to_pylist() if "STRIKE" in row["kinds"]
    }


def shifted(rows):
    """Return rows of prices below zero as the market mirrored about MIDDLE has them."""
    return [
        row._replace(
            price=None if row.price is None else row.price + TURN_TICKS,
            bids=tuple((price + TURN_TICKS, size) for price, size in row.bids),
            asks=tuple((price + TURN_TICKS, size) for price, size in row.asks),
        )
        for row in rows
    ]


# A model by which a strike that is so far above the price is what one as far below it is. Not one of the market's.


def even_vol(terms, price, least_time_value):
    ahead = np.where(terms.is_call, terms.forward - terms.strike, terms.strike - terms.forward)
    over = price - terms.discount * np.maximum(ahead, 0)
    with np.errstate(invalid="ignore"):
        return np.where((terms.years > 0) & (over >= least_time_value - 1e-9), over / np.sqrt(terms.years), np.nan)


def even_worth(terms, vol):
    with np.errstate(invalid="ignore", divide="ignore"):
        gamma = terms.discount / (1 + vol) / (400 + (terms.forward - terms.strike) ** 2)
    return Worth(gamma, gamma, gamma)


def even_profile(terms, vol, contracts, spot, prices):
    known = ~np.isnan(vol) & (terms.years > 0)
    total = np.zeros(len(prices), np.int64)
    for place, price in enumerate(prices):
        at = terms._replace(forward=np.full(len(vol), price))
        total[place] = contracts[known] @ np.rint(even_worth(at, vol).gamma[known] * GAMMA_SCALE).astype(np.int64)
    return total
