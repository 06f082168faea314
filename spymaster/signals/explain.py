"""Why a level had the score that it had: the rows that made each part of it, what they add up to, and where they lie.

The snap is worked again by what it had seen, and then its parts once more from the rows alone (`sums.py`): what was
added, canceled and filled in the zone in the barrier's window, its depth, what was eaten; bought and sold in the
tape's; the gamma of option prints near the level in that of fuel; the points, which add up from 50, and the smoothed
score, from that of the snap before. Where both ways give the same numbers, the rows listed are the whole reason.

Not traced are numbers that come from the whole history, so that no few rows are their reason: typical sizes and norms,
and with them what chose the barrier's state and what shrinks the tape; when a price was last full; ranks; the 60 s and
240 s of the barrier, which are shown beside and make nothing; a print's gamma and its customer's side, which the option
model says; average prices and the value area, made of each print of the session. A void part is made of nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import profile as numbers
from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.option_model import GAMMA_SCALE
from spymaster.engines.profile import Profile
from spymaster.engines.typical import OFFSETS
from spymaster.events import FUTURES_MBP10, OPTIONS_TRADES
from spymaster.events.snaps import SNAP
from spymaster.lake import gold
from spymaster.lake.gold import GOLD
from spymaster.signals import payload, sums, where
from spymaster.signals.begun import code_hash
from spymaster.signals.feed import Roots
from spymaster.signals.levels_made import made_by, set_by_print
from spymaster.signals.moment import Moment, level_of, moment_at, row_of
from spymaster.signals.pieces import Key
from spymaster.signals.trace import Sought, Trace, trace

MOST_ROWS: Final = 1_000  # of a part; the largest, and what all of them add up to
NO_EVIDENCE: Final = 50.0
_GONE: Final = 64  # half-lives, after which no bit is left
NOT_TRACED: Final = (
    "typical sizes and norms, of the whole history; with them the choice of the state and what shrinks the tape",
    "when a price of the zone was last full, ranks, and the barrier's 60 s and 240 s",
    "the gamma and the customer's side of an option print, which the option model says",
)

Document = dict[str, Any]


class Explained(NamedTuple):
    """An explanation.

    Attributes:
        document: as JSON.
        moment: the snap, and those of the minute before.
        level_id: of the level.
        trace: all rows behind it.
        tick: of the book.
        on_book: the level is a price of the book, and not of a stock.
    """

    document: Document
    moment: Moment
    level_id: str
    trace: Trace
    tick: float
    on_book: bool


def explain(
    data_root: Path, wal_root: Path, profile: Profile, level: str, at_ns: int, most_rows: int = MOST_ROWS
) -> Explained:
    """Explain a level at a time.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: by whose numbers it was judged.
        level: its id, or its price.
        at_ns: UTC nanoseconds, in the 250 ms that begin with the snap.
        most_rows: that are listed of each part.

    Raises:
        UsageError: no snap stands there, or the level was not judged.
        SpymasterError, OSError: log or lake cannot be read.
    """
    roots = Roots(data_root, wal_root)
    moment = moment_at(roots, profile, at_ns)
    row = level_of(moment.snap, level)
    values = row_of(moment.snap.levels, row)
    found = trace(
        roots, profile, moment.session, moment.past.contract, moment.past.chain, _sought(profile, moment, values)
    )
    parts = {
        "barrier": _barrier(profile, values, found, most_rows),
        "tape": _tape(profile, values, found, most_rows),
        "fuel": _fuel(profile, values, found, most_rows),
    }
    of_level = made_by(roots, profile, moment, values, found)
    listed = [row for part in (*parts.values(), *of_level) for row in part["rows"]]
    _locate(roots.data, profile, listed)
    score = _score(profile, moment, values)
    seen = _seen(moment)
    document = {
        "asked_ns": at_ns,
        **_head(profile, moment),
        "gold": _gold(roots.data, profile, moment, row),
        "level": {**_level(values), "made_by": of_level},
        "score": score,
        **parts,
        "seen": seen,
        "captures": where.captures(roots, {row["capture_id"] for row in listed}),
        "not_traced": list(NOT_TRACED),
        "recomputed": _verdict([score, *parts.values()]),
    }
    return Explained(document, moment, values["id"], found, profile.book.tick, profile.book.ratio_s is None)


def _verdict(parts: Iterable[Mapping[str, Any]]) -> str:
    """Return "same" where each number that was recomputed is the row's."""
    checks = [check for part in parts for check in part["recomputed"].values()]
    return "same" if all(check["row"] == check["recomputed"] for check in checks) else "differs"


def _checks(row: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Document:
    return {name: {"row": row[name], "recomputed": value} for name, value in recomputed.items()}


# Which rows are sought


def _sought(profile: Profile, moment: Moment, values: Mapping[str, Any]) -> Sought:
    tick, side = profile.market.tick, values["barrier_side"]
    reach = (profile.options.near_ticks + 1e-6) * tick
    void = values["level_void_reason"] is not None
    price = round(values["price"] / tick)
    return Sought(
        moment.snap.snap_ns,
        price,
        (values["price"] - reach, values["price"] + reach) if values["fuel_prints"] else None,
        None if void else side,
        () if void else _zone(profile.barrier, values),
        None if profile.book.ratio_s is not None else set_by_print(values, moment.since_ns),
    )


def _zone(rules: numbers.Barrier, values: Mapping[str, Any]) -> list[int]:
    """Return the prices of the zone that lie within ten levels, in ticks of the book."""
    count = min(rules.zone_ticks, OFFSETS - values["offset_ticks"])
    return [values["zone_ticks"] + sums.OUTWARD[values["barrier_side"]] * at for at in range(count)]


# The parts


def _barrier(profile: Profile, values: Mapping[str, Any], found: Trace, most_rows: int) -> Document:
    rules, tick, flow = profile.barrier, profile.book.tick, found.flow
    names = ("barrier_side", "state", "held_state", "held_since_ns", "coverage", "typical_depth", "wall_ratio")
    head = {"points": values["points_barrier"], "window_s": rules.flow_s, **{name: values[name] for name in names}}
    if flow is None:
        nothing = {"zone": [], "counts": {}, "recomputed": {}, "rows": [], "rows_in_all": 0}
        return {"void": values["level_void_reason"], **head, **nothing}
    zone = _zone(rules, values)
    seconds = rules.flow_s
    added, canceled, filled = (
        sum(getattr(one, name) for one in flow.changes) for name in ("added", "canceled", "filled")
    )
    recomputed = {
        "depth": sum(flow.book[values["barrier_side"]].get(price, 0) for price in zone),
        f"added_{seconds}s": added,
        f"canceled_{seconds}s": canceled,
        f"filled_{seconds}s": filled,
        f"replenishment_ratio_{seconds}s": added / (canceled + filled) if canceled + filled else None,
        "eaten_ratio": _eaten(rules, values, zone, flow),
    }
    rows = [row for change in flow.changes for row in _of_change(change, values["barrier_side"], tick, found)]
    counts = {
        "book_updates": len({change.place for change in flow.changes if change.place is not None}),
        "prints": sum(len(change.prints) for change in flow.changes),
        "volume": flow.volume,
    }
    standing = None if flow.place is None else found.keys.of(FUTURES_MBP10.name, flow.place)._asdict()
    return {
        "void": None,
        **head,
        "zone": [price * tick for price in zone],
        "counts": counts,
        "book": {"row": standing, "sizes": [flow.book[values["barrier_side"]].get(price, 0) for price in zone]},
        "recomputed": _checks(values, recomputed),
        "rows_in_all": len(rows),
        "rows": _largest(rows, lambda row: row["added"] + row["canceled"] + row["filled"], most_rows),
    }


def _eaten(rules: numbers.Barrier, values: Mapping[str, Any], zone: Sequence[int], flow: sums.Flow) -> float | None:
    """Return the largest share of the volume that was filled at one price near the touch."""
    near = [price for at, price in enumerate(zone) if values["offset_ticks"] + at <= rules.absorption_offset_ticks]
    if not near or not flow.volume:
        return None
    return max(sum(one.filled for one in flow.changes if one.price == price) for price in near) / flow.volume


def _of_change(change: sums.Change, side: str, tick: float, found: Trace) -> list[Document]:
    """Return the rows of an instant at a price: its book, and each of its prints."""
    schema = FUTURES_MBP10.name
    plain = {"price": change.price * tick, "side": side, "added": 0, "canceled": 0, "filled": 0}
    rows = [
        {**_key(schema, place, change.ts_ns, found), "what": "print", **plain, "filled": size}
        for place, size in change.prints
    ]
    if change.place is not None:
        book = {**_key(schema, change.place, change.ts_ns, found), "what": "book", **plain}
        rows.append({**book, "before": change.before, "after": change.after})
    rows[-1] |= {"added": change.added, "canceled": change.canceled}  # of prints alone the last: what refilled it
    return rows


def _tape(profile: Profile, values: Mapping[str, Any], found: Trace, most_rows: int) -> Document:
    tick = profile.book.tick
    bought, sold = (sum(row.size for row in found.tape if row.side == side) for side in (1, -1))
    rows = [
        {
            **_key(FUTURES_MBP10.name, row.place, row.ts_ns, found),
            "what": "print",
            "price": None if row.price is None else row.price * tick,
            "size": row.size,
            "aggressor": row.side,
        }
        for row in found.tape
    ]
    names = ("tape_imbalance", "tape_velocity_ticks_s", "tape_coverage", "sweep_direction", "sweep_age_ns")
    return {
        "void": None if values["points_tape"] is not None else values["level_void_reason"],
        "points": values["points_tape"],
        "window_s": profile.tape.window_s,
        **{name: values[name] for name in (*names, "sweep_contracts")},
        "counts": {"prints": len(rows), "unsided": sum(row.size for row in found.tape if row.side == 0)},
        "recomputed": _checks(values, {"tape_bought": bought, "tape_sold": sold}),
        "rows_in_all": len(rows),
        "rows": _largest(rows, lambda row: row["size"], most_rows),
    }


def _fuel(profile: Profile, values: Mapping[str, Any], found: Trace, most_rows: int) -> Document:
    prints = [one for one in found.fuel or () if one.gamma is not None]
    add_up = sums.fuel(prints)
    rows = [
        {
            **_key(OPTIONS_TRADES.name, one.place, one.ts_ns, found),
            "what": "print",
            "option": one.option,
            "strike": one.strike,
            "price": one.price,
            "size": one.size,
            "customer": one.sign,
            "gamma": (one.gamma or 0) / GAMMA_SCALE,
        }
        for one in prints
    ]
    return {
        "void": None if values["points_fuel"] is not None else values["level_void_reason"],
        "points": values["points_fuel"],
        "window_s": profile.options.flow_s,
        "fuel": values["fuel"],
        "near_ticks": profile.options.near_ticks,
        "counts": {
            "prints": len(rows),
            "gamma_unknown": len(found.fuel or ()) - len(rows),
            "not_told_apart": found.lost,
        },
        "recomputed": _checks(values, dict(zip(("fuel_net", "fuel_error", "fuel_prints"), add_up, strict=True))),
        "rows_in_all": len(rows),
        "rows": _largest(rows, lambda row: row["gamma"] * row["size"], most_rows),
    }


def _largest(rows: list[Document], by: Any, most: int) -> list[Document]:
    """Return the rows that gave most, of two the newer; in order of time."""
    chosen = (
        sorted(range(len(rows)), key=lambda at: (by(rows[at]), rows[at]["ts_event_ns"], at))[-most:] if most else []
    )
    return [rows[at] for at in sorted(chosen)]


# Points


def _score(profile: Profile, moment: Moment, values: Mapping[str, Any]) -> Document:
    """Return the points, and the same again from what they are made of."""
    rules = profile.score
    points = {name: values[f"points_{name}"] for name in ("barrier", "tape", "fuel")}
    recomputed: Document = {}
    before = _before(moment, values)
    if values["score_raw"] is not None:
        part = getattr(rules, values["state"].lower(), 0.0)  # NEUTRAL has none
        effect = {"AMPLIFY": 1.0, "DAMPEN": -1.0}.get(values["fuel"], 0.0)
        again = {
            "points_barrier": 50 * rules.barrier * part * values["coverage"],
            "points_tape": 50 * rules.tape * values["tape_imbalance"],
            "points_fuel": 50 * rules.fuel * effect,
        }
        again["score_raw"] = NO_EVIDENCE + again["points_barrier"] + again["points_tape"] + again["points_fuel"]
        if before is not None:
            smoothed = _smoothed(rules, moment, values, before)
            again["score"] = smoothed
        recomputed = _checks(values, again)
    return {
        "no_evidence": NO_EVIDENCE,
        **points,
        "raw": values["score_raw"],
        "smooth": values["score"],
        "smooth_before": None if before is None else before["score"],
        "half_life_s": rules.half_life_s,
        "signal": values["signal"],
        "signal_since_ns": values["signal_since_ns"],
        "confidence": values["confidence"],
        "recomputed": recomputed,
    }


def _before(moment: Moment, values: Mapping[str, Any]) -> Document | None:
    """Return the level's row of the snap before; None where it was void or was not there."""
    if len(moment.snaps) < 2:
        return None
    levels = moment.snaps[-2].levels
    at = pc.index(levels.column("id"), pa.scalar(values["id"])).as_py()
    row = None if at < 0 else row_of(levels, at)
    return row if row is not None and row["score_raw"] is not None else None


def _smoothed(rules: numbers.Score, moment: Moment, values: Mapping[str, Any], before: Document) -> float:
    """Return the score that follows from the snap before, which stood for the quiet time between."""
    quiet = (moment.snap.snap_ns - moment.snaps[-2].snap_ns) // SNAP_NS - 1
    raw, stood = float(values["score_raw"]), float(before["score_raw"])
    passed = before["direction"] != values["direction"]  # the price has passed the level, which begins anew
    smooth = NO_EVIDENCE if passed else stood + (float(before["score"]) - stood) * _left(rules, quiet)
    return raw + (smooth - raw) * _left(rules, 1)


def _left(rules: numbers.Score, buckets: int) -> float:
    half_lives = Decimal(buckets * SNAP_NS) / (Decimal(rules.half_life_s) * NS_PER_SECOND)
    return 0.0 if half_lives > _GONE else float(Decimal(2) ** -half_lives)


# What stands around it


def _head(profile: Profile, moment: Moment) -> Document:
    snap = moment.snap
    return {
        "ts_event_ns": snap.snap_ns,
        "underlying": profile.market.underlying,
        "profile": profile.name,
        "profile_hash": snap.profile_hash,
        "code_hash": code_hash(),
        "session": snap.session,
        "contract": snap.contract,
        "mark": moment.mark,
        "known": "recorded positions" if moment.past.recorded else "rule of known time",
        "spot": snap.spot,
        "bid": snap.bid,
        "ask": snap.ask,
        "void_reason": snap.void_reason,
        "whole_since_ns": snap.whole_since_ns,
        "age_ns": snap.age_ns,
    }


def _level(values: Mapping[str, Any]) -> Document:
    names = ("id", "ids", "kinds", "price", "fixed", "level_whole", "direction", "distance_ticks", "touched", "touches")
    return {name: values[name] for name in names}


def _seen(moment: Moment) -> list[Document]:
    """Return how far each capture had left at the snap, where that is on record."""
    chain, number = moment.past.chain, moment.number
    if chain is None or number is None:
        return []
    found = []
    for (schema, capture_id), track in sorted(chain.tracks.items()):
        at = int(np.searchsorted(track.at, number, side="right")) - 1
        if at >= 0:
            found.append({"schema": schema, "capture_id": capture_id, "last_seq": int(track.last_seq[at])})
    return found


def _gold(data_root: Path, profile: Profile, moment: Moment, row: int) -> Document:
    """Return where the row stands in Gold, and whether it is the one that was worked again."""
    snap, underlying = moment.snap, profile.market.underlying
    nothing: Document = {"part": None, "row": None, "same": None, "why": None}
    parts = gold.begun_within(data_root, underlying, moment.session.begin_ns, snap.snap_ns + 1)
    if not parts:
        return {**nothing, "why": "Gold has no part of the session so far"}
    part = parts[max(parts)]
    table = gold.read(part)
    made = payload.rows(snap, snap.levels.slice(row, 1), underlying, profile.name)
    mine = pc.and_(
        pc.equal(table["ts_event_ns"], pa.scalar(snap.snap_ns)), pc.equal(table["level_id"], made["level_id"][0])
    )
    found = np.flatnonzero(np.asarray(mine.to_numpy()))
    if not len(found):
        why = "the level was not in sight" if moment.mark == SNAP else "the snap was worked late, and not published"
        others = pc.any(pc.equal(table["ts_event_ns"], pa.scalar(snap.snap_ns))).as_py()
        return {**nothing, "why": why if others or moment.mark != SNAP else "the part with the snap is not there"}
    footer, at = gold.read_footer(part), int(found[0])
    place = {"part": part.relative_to(data_root).as_posix(), "row": at}
    if (footer.profile_hash, footer.code_hash) != (profile.profile_hash, code_hash()):
        return {**nothing, **place, "why": "it was judged by other numbers, or by other code"}
    same = table.slice(at, 1).select(GOLD.names).equals(pa.Table.from_batches([made]))
    return {**nothing, **place, "same": same}


def _key(schema: str, place: int, ts_ns: int, found: Trace) -> Document:
    return {"schema": schema, **found.keys.of(schema, place)._asdict(), "ts_event_ns": ts_ns}


def _locate(data_root: Path, profile: Profile, rows: Sequence[Document]) -> None:
    """Say of each row where in Bronze it lies; null of one that is in the log alone."""
    symbols = {FUTURES_MBP10.name: profile.book.symbol, OPTIONS_TRADES.name: profile.market.underlying}
    keys = [Key(row["capture_id"], row["capture_seq"]) for row in rows]
    wanted = [
        where.Row(row["schema"], row.get("symbol", symbols.get(row["schema"], "")), key, row["ts_event_ns"])
        for row, key in zip(rows, keys, strict=True)
    ]
    found = where.places(data_root, wanted)
    for row, key in zip(rows, keys, strict=True):
        row["bronze"] = found.get((row["schema"], key))
