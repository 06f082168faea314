"""What comes out: a snap, and in it a row for each level. `SIGNALS` says each column with its unit.

Prices are in the underlying's unit (index points, dollars), `_ticks` in ticks of the underlying, sizes in contracts of
the book. What is not known, or void, is null: no row has NaN or infinity.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.engines import barrier, holds, runway, score
from spymaster.engines.intake import Seen
from spymaster.engines.ledger import WINDOWS_S
from spymaster.engines.levels import LevelRows
from spymaster.engines.market import MarketState
from spymaster.engines.options import Gamma
from spymaster.events import Stream
from spymaster.events.schema import field, no_rows, optional

_RATIOS: Final = ("depth", "wall", "eaten", "replenishment")  # of barrier.RATIOS
_FLOWS: Final = ("added", "canceled", "filled", "delta_liq")
_SHARES: Final = ("replenishment_ratio", "flow_coverage")


def _of_windows() -> list[pa.Field]:
    return [
        column
        for seconds in WINDOWS_S
        for column in (
            optional(f"added_{seconds}s", pa.int64(), f"contracts added in the zone in {seconds} s"),
            optional(f"canceled_{seconds}s", pa.int64(), f"contracts canceled in the zone in {seconds} s"),
            optional(f"filled_{seconds}s", pa.int64(), f"contracts filled in the zone in {seconds} s"),
            optional(f"delta_liq_{seconds}s", pa.int64(), "added - canceled - filled"),
            optional(f"replenishment_ratio_{seconds}s", pa.float64(), "added / (canceled + filled); null if 0 / 0"),
            optional(f"flow_coverage_{seconds}s", pa.float64(), f"share of the {seconds} s in which the zone was seen"),
        )
    ]


SIGNALS: Final = pa.schema(
    [
        field("snap_ns", pa.int64(), "event time of the snap, UTC nanoseconds; a whole multiple of 250 ms"),
        field("profile_hash", pa.string(), "of the numbers that it was judged by"),
        field("contract", pa.string(), "whose book was judged"),
        field("spot", pa.float64(), "mid of the last sound book"),
        field("bid", pa.float64(), "its best bid"),
        field("ask", pa.float64(), "its best ask"),
        field("whole_since_ns", pa.int64(), "nothing is missing since then, UTC nanoseconds"),
        optional("void_reason", pa.string(), "why all levels of the snap are void"),
        field("id", pa.string(), "of the level, or of the steadiest of those at the price"),
        field("ids", pa.list_(pa.string()), "of all levels at the price"),
        field("kinds", pa.list_(pa.string()), "of the same"),
        field("price", pa.float64(), "of the level"),
        field("fixed", pa.bool_(), "it will not move any more in this session"),
        field("level_whole", pa.bool_(), "nothing is missing in the span that the level is made of"),
        field("direction", pa.int8(), "+1 a break goes up, -1 down, 0 it has only been seen at the mid"),
        field("distance_ticks", pa.float64(), "from the mid to the level, + is up; halves occur"),
        field("in_sight", pa.bool_(), "within the monitor band"),
        field("touched", pa.bool_(), "this snap is a touch"),
        field("touches", pa.int32(), "so far in the session"),
        optional("approach_ticks_s", pa.float64(), "velocity of the mid towards the level, ticks a second"),
        field("confluence_count", pa.int32(), "other levels within the confluence band"),
        field("confluence_pressure", pa.float64(), "their weights by nearness, 0 to 1"),
        optional("barrier_side", pa.string(), "bid or ask; null inside the spread"),
        optional("zone_ticks", pa.int64(), "where the zone begins, ticks of the book"),
        optional("offset_ticks", pa.int64(), "from the touch outward, ticks of the book"),
        field("state", pa.string(), "of the barrier at this snap, VOID to ABSORPTION"),
        optional("level_void_reason", pa.string(), "why the level is VOID"),
        optional("held_state", pa.string(), "the state that has held"),
        optional("held_since_ns", pa.int64(), "since when, UTC nanoseconds"),
        field("coverage", pa.float64(), "share of the zone that is visible"),
        optional("depth", pa.int64(), "contracts in the zone"),
        optional("typical_depth", pa.float64(), "of the same prices, contracts"),
        *_of_windows(),
        optional("depth_ratio", pa.float64(), "depth / typical depth"),
        optional("depth_rank", pa.float64(), "its rank in its own history, 0 to 1"),
        optional("wall_ratio", pa.float64(), "largest size in the zone / its typical size"),
        optional("wall_rank", pa.float64(), "its rank in its own history, 0 to 1"),
        optional("eaten_ratio", pa.float64(), "largest share of the volume of 5 s that was eaten at one price"),
        optional("eaten_rank", pa.float64(), "its rank in its own history, 0 to 1"),
        optional("replenishment_rank", pa.float64(), "rank of replenishment_ratio_5s in its own history, 0 to 1"),
        optional("tape_imbalance", pa.float64(), "towards the level, -1 to 1"),
        field("tape_bought", pa.int64(), "contracts whose aggressor bought, in the tape's window"),
        field("tape_sold", pa.int64(), "likewise sold"),
        field("tape_coverage", pa.float64(), "share of the tape's window that was seen"),
        optional("tape_velocity_ticks_s", pa.float64(), "of the prints, ticks of the book a second, + is up"),
        optional("sweep_direction", pa.int8(), "of the newest sweep, +1 up, -1 down"),
        optional("sweep_age_ns", pa.int64(), "since its first print"),
        optional("sweep_contracts", pa.int64(), "how much it took"),
        optional("runway_direction", pa.int8(), "+1 up, -1 down"),
        optional("runway_next_id", pa.string(), "the next level on the way"),
        optional("runway_next_ticks", pa.float64(), "from the mid to it"),
        optional("runway_strong_id", pa.string(), "the next strong one"),
        optional("runway_strong_ticks", pa.float64(), "from the mid to it"),
        optional("runway_quality", pa.string(), "CLEAR or OBSTRUCTED; null where no level is on the way"),
        field("fuel", pa.string(), "of strikes near the level: AMPLIFY, DAMPEN or NEUTRAL"),
        optional("fuel_net", pa.float64(), "of the gamma traded near it, bought less sold by customers, -1 to 1"),
        optional("fuel_error", pa.float64(), "its standard error, 0 to 1"),
        field("fuel_prints", pa.float64(), "how many prints of one weight would tell as much"),
        optional("gamma_open_interest", pa.float64(), "dealers' at the level's strike, units a point; null off one"),
        optional("gamma_volume", pa.float64(), "likewise by the session's volume"),
        optional("gamma_flow", pa.float64(), "likewise by the newest flow"),
        optional("gamma_flow_open", pa.float64(), "likewise by the flow since the session's open"),
        optional("call_wall", pa.float64(), "the strike with the most gamma of calls"),
        optional("put_wall", pa.float64(), "the strike with the most gamma of puts"),
        optional("gamma_flip", pa.float64(), "the price at which the dealers' position has no gamma"),
        field("dealer_pressure", pa.float64(), "dealers' gamma by the newest flow, units a point"),
        field("dealer_pressure_change", pa.float64(), "its change in a minute"),
        optional("flow_turn", pa.int8(), "of the newest turn of the flow, +1 where dealers turned long, -1 short"),
        optional("flow_turn_age_ns", pa.int64(), "since it"),
        optional("gamma_age_ns", pa.int64(), "since open interest and walls were looked at"),
        optional("points_barrier", pa.float64(), "part of score_raw's distance from 50"),
        optional("points_tape", pa.float64(), "likewise"),
        optional("points_fuel", pa.float64(), "likewise"),
        optional("score_raw", pa.float64(), "0 to 100, 50 is no evidence; no probability"),
        optional("score", pa.float64(), "smoothed"),
        field("signal", pa.string(), "BREAK, REJECT, CONTESTED or NEUTRAL"),
        optional("signal_since_ns", pa.int64(), "since when, UTC nanoseconds; null of NEUTRAL"),
        field("confidence", pa.float64(), "0 to 1, by coverage and age of the data; 0 where void"),
    ],
    {"schema_name": "levels.signals", "schema_version": "1"},
)


class Counters(NamedTuple):
    """What was counted since the session's begin.

    Attributes:
        snaps: snaps taken.
        void: of these, those that are void whole.
        rows: book rows of the contract that were worked.
        printed: contracts printed, by the book's own rows.
        breaks: signals of BREAK given.
        rejects: likewise of REJECT.
        contested: likewise.
        traded: contracts of the contract in `futures.trades`; the same, but for what one of the streams lacks; 0 where
            the underlying is a stock, for which nobody asks for that stream.
        unsided: contracts whose print says no aggressor.
        off_tick: rows with a price that is no whole tick.
        before: rows of times before the session.
        unaccounted: book rows older than the newest instant accounted, which only tape and volume count.
        unpriced: shares of a stock's prints that set no price, and are not among its volume.
        late: rows that came after the snap of their time, by stream, whatever their contract.
        ahead: rows with a time that cannot be, by stream; left out.
        again: rows that another capture had told already, by stream; left out.
    """

    snaps: int
    void: int
    rows: int
    printed: int
    breaks: int
    rejects: int
    contested: int
    traded: int
    unsided: int
    off_tick: int
    before: int
    unaccounted: int
    unpriced: int
    late: Mapping[Stream, int]
    ahead: Mapping[Stream, int]
    again: Mapping[Stream, int]


class Snap(NamedTuple):
    """What the engines put out at a snap.

    Attributes:
        snap_ns: event time, UTC nanoseconds.
        session: the trading day.
        contract: whose book was judged.
        profile_hash: of the numbers that it was judged by.
        spot: mid of the last sound book, in the underlying's unit; None before the first, and since a hole; of a stock
            that of its last sound quote, and None once that is stale.
        bid: likewise.
        ask: likewise.
        age_ns: of the newest row of the book, or of a stock's quote where that is older; None before the first.
        whole_since_ns: nothing is missing since then.
        void_reason: why all levels are void; None where they are not.
        counters: of the session.
        seen: how far the captures had left that moved since the snap before.
        market: the market's state.
        levels: a row for each level, ascending by price, of the schema SIGNALS.
        gamma: of the underlying's options.
        mids: times, ascending, and mids in half ticks of the underlying's sound books, or a stock's quotes, among the
            rows since the snap before; those before a hole too.
    """

    snap_ns: int
    session: str
    contract: str
    profile_hash: str
    spot: float | None
    bid: float | None
    ask: float | None
    age_ns: int | None
    whole_since_ns: int
    void_reason: str | None
    counters: Counters
    seen: Mapping[tuple[Stream, int], Seen]
    market: MarketState
    levels: pa.RecordBatch
    gamma: Gamma
    mids: tuple[NDArray[np.int64], NDArray[np.int64]]


NO_LEVELS: Final = no_rows(SIGNALS)

NULL: Final = -(2**63)  # of whole numbers until they are in Arrow; no column has it as a value

_SIDES: Final = ("bid", "ask", None)
_STATES: Final = holds.STATES
_HELD: Final = (None, *holds.STATES[1:])
_REASONS: Final = (None, *barrier.REASONS[1:])
_QUALITIES: Final = runway.QUALITIES
_SIGNALS: Final = score.SIGNALS
_WINDOWED: Final = {name: [f"{name}_{seconds}s" for seconds in WINDOWS_S] for name in (*_FLOWS, *_SHARES)}
_ALIKE: Final = ("profile_hash", "contract", "void_reason")  # texts that all levels of a snap share


def _of_type(kind: pa.DataType) -> tuple[str, ...]:
    return tuple(column.name for column in SIGNALS if column.type == kind and column.name not in _ALIKE)


# Columns of one type are cut from one array, since an array of Arrow's costs as much as a thousand of its numbers.
_TEXTS, _LISTS = _of_type(pa.string()), _of_type(pa.list_(pa.string()))
_NUMBERS: Final = {
    kind: _of_type(kind) for kind in (pa.float64(), pa.int64(), pa.int32(), pa.int8(), pa.bool_())
}  # fmt: skip
_NAMES: Final = SIGNALS.names


def of_levels(levels: LevelRows, rows: NDArray[np.intp], tick: float) -> dict[str, Any]:
    """Return the columns that say what the levels are."""
    places = rows.tolist()
    return {
        "id": [levels.id[row] for row in places],
        "ids": tuple([levels.ids[row] for row in places]),
        "kinds": tuple([levels.kinds[row] for row in places]),
        "price": levels.price[rows] * tick,
        "fixed": levels.fixed[rows],
        "level_whole": levels.whole[rows],
        "direction": levels.direction[rows],
        "distance_ticks": levels.distance[rows] / 2,
        "in_sight": levels.in_sight[rows],
        "touched": levels.touched[rows],
        "touches": levels.touches[rows],
        "approach_ticks_s": levels.velocity[rows],
        "confluence_count": levels.confluence[rows],
        "confluence_pressure": levels.pressure[rows],
    }


def of_barrier(judged: barrier.Judged) -> dict[str, Any]:
    """Return the columns of the barrier; what is void is null."""
    void, sided = judged.state == holds.VOID, judged.side != barrier.NO_SIDE
    found: dict[str, Any] = {
        "barrier_side": _named(_SIDES, judged.side),  # the last of them is that of NO_SIDE, -1
        "zone_ticks": np.where(sided, judged.price, NULL),
        "offset_ticks": np.where(sided, judged.offset, NULL),
        "state": _named(_STATES, judged.state),
        "level_void_reason": _named(_REASONS, judged.reason),
        "held_state": _named(_HELD, judged.held),
        "held_since_ns": np.where(judged.held == holds.VOID, NULL, judged.held_since_ns),
        "coverage": judged.coverage,
        "depth": np.where(void, NULL, judged.depth),
        "typical_depth": np.where(void, np.nan, judged.typical),
    }
    for name, columns in _WINDOWED.items():
        null = np.nan if name in _SHARES else NULL
        found.update(zip(columns, np.where(void, null, getattr(judged, name).T), strict=True))
    for name, ratio, rank in zip(_RATIOS, judged.ratios.T, judged.ranks.T, strict=True):
        found[f"{name}_ratio"], found[f"{name}_rank"] = ratio, rank
    return found


def of_runways(ways: runway.Runways, levels: LevelRows) -> dict[str, Any]:
    """Return the columns of the way from the mid."""
    ids = (*levels.id, None)  # the last of them is that of NONE, -1
    return {
        "runway_direction": np.where(ways.direction == 0, np.int64(NULL), ways.direction),
        "runway_next_id": _named(ids, ways.next),
        "runway_next_ticks": np.where(ways.next == runway.NONE, np.nan, ways.next_distance / 2),
        "runway_strong_id": _named(ids, ways.strong),
        "runway_strong_ticks": np.where(ways.strong == runway.NONE, np.nan, ways.strong_distance / 2),
        "runway_quality": _named(_QUALITIES, ways.quality),
    }


def of_scores(scores: score.Scores) -> dict[str, Any]:
    """Return the columns of score and signal."""
    return {
        "points_barrier": scores.barrier,
        "points_tape": scores.tape,
        "points_fuel": scores.fuel,
        "score_raw": scores.raw,
        "score": scores.smooth,
        "signal": _named(_SIGNALS, scores.signal),
        "signal_since_ns": np.where(scores.signal == score.NEUTRAL, NULL, scores.since_ns),
        "confidence": scores.confidence,
    }


class Columns(NamedTuple):
    """A snap's columns of SIGNALS, before they are Arrow's.

    Attributes:
        of: by name, what each level has, or one value for all; each has to be there. NaN, NULL and None are null.
        rows: of levels, how many.
    """

    of: Mapping[str, Any]
    rows: int


class Unmade(NamedTuple):
    """A snap that has no levels yet, and what they are made of; None where there are none."""

    snap: Snap
    columns: Columns | None


def made(snaps: Sequence[Unmade]) -> list[Snap]:
    """Return snaps with their levels: to make those of many at once costs little more than those of one."""
    judged = [columns for _, columns in snaps if columns is not None]
    if not judged:
        return [snap for snap, _ in snaps]
    whole, begin, found = _batch(judged), 0, []
    for snap, columns in snaps:
        if columns is None:
            found.append(snap)
            continue
        levels = whole if len(judged) == 1 else whole.slice(begin, columns.rows)
        found.append(snap._replace(levels=levels))
        begin += columns.rows
    return found


def _batch(judged: Sequence[Columns]) -> pa.RecordBatch:
    """Return the columns of snaps, one behind the other, as they stand in SIGNALS."""
    count, found = sum(columns.rows for columns in judged), {}
    for kind, names in _NUMBERS.items():
        found.update(_cut(_block(judged, names, kind, count), names, count))
    texts = [text for name in _TEXTS for columns in judged for text in columns.of[name]]
    found.update(_cut(pa.array(texts, pa.string()), _TEXTS, count))
    for name in _ALIKE:
        found[name] = _joined([_repeated(columns.of[name], columns.rows) for columns in judged])
    for name in _LISTS:
        found[name] = _joined([_lists(columns.of[name]) for columns in judged])
    return pa.RecordBatch.from_arrays([found[name] for name in _NAMES], schema=SIGNALS)


def _block(judged: Sequence[Columns], names: Sequence[str], kind: pa.DataType, count: int) -> pa.Array:
    """Return numbers of one type, column after column."""
    null, wide = (np.nan, np.float64) if kind == pa.float64() else (NULL, np.int64)
    block, begin = np.empty((len(names), count), wide), 0
    for of, own in judged:
        for row, name in zip(block[:, begin : begin + own], names, strict=True):
            value = of[name]
            row[:] = null if value is None else value
        begin += own
    flat: NDArray[Any] = block.ravel()
    if kind == pa.float64():
        numbers: pa.Array = pa.array(flat, from_pandas=True)
    else:
        numbers = pa.array(flat.astype(kind.to_pandas_dtype()), kind, mask=flat == NULL)
    return numbers


def _joined(arrays: list[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def _cut(block: pa.Array, names: Sequence[str], count: int) -> dict[str, pa.Array]:
    return {name: block.slice(at, count) for name, at in zip(names, range(0, len(block), count), strict=True)}


def _named(names: Sequence[str | None], codes: NDArray[Any]) -> list[str | None]:
    return [names[code] for code in codes.tolist()]


@lru_cache(maxsize=64)
def _repeated(text: str | None, count: int) -> pa.Array:
    return pa.array([text] * count, pa.string())


@lru_cache(maxsize=64)
def _lists(texts: tuple[tuple[str, ...], ...]) -> pa.Array:
    return pa.array(texts, pa.list_(pa.string()))
