"""From rows to signals: one of each engine for a session, a snap after another.

`Judge.take` gets rows as they leave the bus and returns the snaps that they make due; each is worked whole, by
`_Day.snap`, whose lines are the order of the engines. Every memory begins anew with the session, so a judge that was
warmed up from there has the same bits as one that ran all along; and with a roll, as no book says anything of another
contract's. What is remembered of levels at one price is remembered of the leading one.

The underlying is the book's own root, or a stock whose levels are judged by that book (`stock.py`).

A snap belongs to the session in which its time lies. Rows of times before that session are left out and counted;
outside of sessions there are no snaps.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spymaster.clock import NS_PER_SECOND
from spymaster.engines import barrier, fuel, options, score, snap
from spymaster.engines.barrier import Barrier, Ladder, flow_of
from spymaster.engines.board import Spots
from spymaster.engines.intake import Intake, Piece
from spymaster.engines.ledger import SNAP_NS, Body, Ledger
from spymaster.engines.levels import LevelRows, Levels, Zone
from spymaster.engines.market import Earlier, Market, MarketState, Prints
from spymaster.engines.options import Options
from spymaster.engines.profile import Profile
from spymaster.engines.rows import ASK, BID, NO_PRICE, PRINT, SNAPSHOT, BookRows, book_rows, mids_of, no_rows, volume
from spymaster.engines.runway import is_strong, runways
from spymaster.engines.score import Evidence, Score
from spymaster.engines.session import Session
from spymaster.engines.snap import Columns, Counters, Snap, Unmade
from spymaster.engines.stock import Stock
from spymaster.engines.tape import Tape, Traded
from spymaster.engines.typical import Norms, Typical
from spymaster.engines.whole import Holes, Whole
from spymaster.events import FUTURES_MBP10, FUTURES_TRADES, Stream

MOST_LEVELS: Final = 64  # the nearest to the mid are judged: more than a screen shows, and four times what Gold keeps
_NO_ROWS: Final = no_rows()
_SOUND: Final = (barrier.SOUND, barrier.NOT_WHOLE, barrier.WARM_UP)  # of a ladder whose book is
_BEGINNING: Final = (barrier.NO_BOOK, barrier.NOT_WHOLE, barrier.WARM_UP)  # what a session begins with, and a roll too


class Judge:
    """Signals of one profile's levels.

    Attributes:
        zones: the user's hot zones, to be replaced when they change; the next snap has them.
        sessions: in order, to be extended when a new one comes.
        outside: snaps that were due outside of sessions, and not taken.
    """

    def __init__(
        self,
        profile: Profile,
        sessions: Sequence[Session],
        contract: str,
        *,
        earlier: Earlier | None = None,
        seeds: Mapping[str, Norms] | None = None,
        zones: Sequence[Zone] = (),
        since_ns: int | None = None,
        half_days: Container[date] = (),
        body: Body | None = None,
    ) -> None:
        """Begin without rows.

        Args:
            profile: the numbers.
            sessions: the trading days, in order, of the profile's calendar.
            contract: the front month, e.g. ESZ5, until `roll` says another.
            earlier: what the first session takes over from those before it.
            seeds: typical sizes and norms to begin a session with, by its date; see `typical.mean_of`.
            zones: the user's hot zones, each name once.
            since_ns: rows of earlier times do not come, though their session had some; None where all of them come.
            half_days: dates on which options expire early, see `expiry.half_days`.
            body: of the ledger; the fastest if None.
        """
        self.zones = tuple(zones)
        self.sessions = list(sessions)
        self.outside = 0
        self._profile = profile
        self._contract = contract
        self._earlier = earlier
        self._seeds = seeds or {}
        self._half_days, self._body = half_days, body
        self._stock = _stock_of(profile)
        self._intake = Intake(profile.book.symbol, self._stock)
        if sessions:
            self._intake.snap_ns = sessions[0].begin_ns - SNAP_NS  # a snap before would take rows from the first one
        self._day: _Day | None = None
        self._since_ns = since_ns
        self._rolled = False
        self._kept: Market | None = None  # of a stock, through a roll

    def wants(self, stream: Stream) -> bool:
        """Return whether rows of a stream mean anything here; of others none needs to be handed over."""
        return self._intake.wants(stream)

    @property
    def norms(self) -> Norms | None:
        """What is typical as of the newest snap; None before the first of a session, and until the warm-up is over."""
        typical = None if self._day is None else self._day.typical
        return typical.norms if typical is not None and typical.ready else None

    def take(self, stream: Stream, batch: pa.RecordBatch) -> list[Snap]:
        """Take rows as they leave the bus; return the snaps that they make due."""
        worked = [self._work(piece) for piece in self._intake.take(stream, batch)]
        return snap.made([found for found in worked if found is not None]) if worked else []

    def put(self, stream: Stream, batch: pa.RecordBatch) -> None:
        """Take rows of a replay, whose snaps `snap` asks for."""
        self._intake.put(stream, batch)

    def snap(self, snap_ns: int) -> Snap | None:
        """Return the recorded snap at a time; None outside of sessions. Raises as `work` does."""
        return None if (found := self.work(snap_ns)) is None else snap.made([found])[0]

    def work(self, snap_ns: int) -> Unmade | None:
        """Work the rows that were put up to a recorded snap; what `snap.made` makes of many at once is `snap`'s.

        Raises:
            ValueError: it is not on 250 ms, or not after the one before; nothing was worked.
        """
        return self._work(self._intake.snap(snap_ns))

    def skip(self, stream: Stream, first_ns: int, last_ns: int) -> None:
        """Say that rows of these times left the bus and did not come here."""
        self._intake.skip(stream, first_ns, last_ns)

    def roll(self, contract: str, earlier: Earlier | None = None) -> None:
        """Judge another contract from the next snap on; all begins anew there, but for the market state of a stock.

        Args:
            contract: the new front month.
            earlier: what is known of its sessions before; a stock keeps what it has.
        """
        if self._stock is None:
            self._earlier = earlier
        elif self._day is not None:
            self._kept = self._day.market
        self._contract, self._rolled, self._day = contract, True, None
        self._since_ns = self._intake.snap_ns

    def _work(self, piece: Piece) -> Unmade | None:
        session = self._session(piece.snap_ns)
        if session is None:
            self.outside += 1
            return None
        if self._day is None or self._day.session != session:
            if self._day is not None:
                self._earlier, self._rolled = self._day.market.earlier(), False
            self._day = self._begun(session)
        return self._day.snap(piece, self.zones)

    def _begun(self, session: Session) -> "_Day":
        kept, self._kept = self._kept, None
        if kept is not None and kept.session != session:
            self._earlier, kept = kept.earlier(), None
        seed = self._seeds.get(session.date)
        day = _Day(
            self._profile, session, self._contract, self._earlier, seed, self._half_days, self._body, self._rolled
        )
        if self._since_ns is not None:
            day.begin_late(self._since_ns, kept)
        return day

    def _session(self, snap_ns: int) -> Session | None:
        at = bisect_right(self.sessions, snap_ns, key=lambda session: session.begin_ns) - 1
        return self.sessions[at] if at >= 0 and snap_ns < self.sessions[at].end_ns else None


class _Day:
    """One session's engines."""

    def __init__(
        self,
        profile: Profile,
        session: Session,
        contract: str,
        earlier: Earlier | None,
        seed: Norms | None,
        half_days: Container[date],
        body: Body | None,
        rolled: bool,
    ) -> None:
        self.session = session
        self.market = Market(profile.market, session, earlier)
        self._profile, self._hash = profile, profile.profile_hash
        self._contract, self._rolled = contract, rolled
        self._whole = Whole(session, contract, of_stock=_stock_of(profile) is not None)
        self._stock = _begun_stock(profile, session)
        self._ledger = Ledger(body)
        self.typical = Typical(profile.typical, seed)
        self._barrier = Barrier(profile.barrier)
        self._tape = Tape(profile.tape, profile.barrier.flow_s)
        self._levels = Levels(profile.levels, profile.market.tick)
        written_on = contract if self._stock is None else profile.market.underlying
        self._options = Options(
            profile.options, profile.levels, profile.market, written_on, half_days, session.begin_ns
        )
        self._score = Score(profile.score)
        self._newest_ns: int | None = None
        self._snaps = self._void = self._rows = self._printed = self._traded = self._off_tick = self._before = 0
        self._given: Counter[int] = Counter()  # signals, by kind
        self._late: Counter[Stream] = Counter()
        self._ahead: Counter[Stream] = Counter()
        self._again: Counter[Stream] = Counter()

    def begin_late(self, since_ns: int, kept: Market | None = None) -> None:
        """Say that rows from before a time are not there, those of the book alone where market state was kept."""
        if kept is None:
            self.market.void(self.session.begin_ns, since_ns)
        else:
            self.market = kept
        self._whole.since_ns = max(self._whole.since_ns, since_ns)

    def snap(self, piece: Piece, zones: Sequence[Zone]) -> Unmade:
        """Work a piece through every engine, in this order, and return what comes out."""
        snap_ns = piece.snap_ns
        rows = self._rows_of(piece)
        self._count(piece, rows)
        holes = self._whole.work(piece)
        self._account(rows, snap_ns, holes)
        state = self._market(piece, rows, holes)
        norms = self.typical.norms
        void = holes.reason or self._stale(snap_ns)
        ladder = self._barrier.work(snap_ns, self._ledger, norms, warm=self.typical.ready, void=void is not None)
        if self._stock is not None:
            self._stock.pair(snap_ns, self._touch() if ladder.reason in _SOUND else None)
        traded = self._tape.work(snap_ns, rows, norms)
        self._work_options(piece, rows, state)
        self._learn(snap_ns, ladder)
        reason = self._reason(void, holes, ladder)
        self._snaps += 1
        self._void += reason is not None
        whole_since_ns = max(self._ledger.whole_since_ns or snap_ns, self._whole.since_ns)
        head = self._head(state, whole_since_ns, reason)
        found = Snap(
            session=self.session.date,
            age_ns=None if self._heard_ns is None else snap_ns - self._heard_ns,
            counters=self._counters(),
            seen=piece.seen,
            market=state,
            levels=snap.NO_LEVELS,
            gamma=self._gamma,
            mids=self._mids,
            **head,
        )
        return Unmade(found, self._judged(state, zones, traded, head))

    def _rows_of(self, piece: Piece) -> BookRows:
        """Return the contract's book rows of the session, in order."""
        batches = piece.batches.get(FUTURES_MBP10.name)
        if batches is None:
            return _NO_ROWS
        rows, off_tick = book_rows(batches, self._contract, self._profile.book.tick)
        self._off_tick += off_tick
        mine = (rows.ts_ns >= self.session.begin_ns) | (rows.kind == SNAPSHOT)
        if mine.all():
            return rows
        self._before += int((~mine).sum())
        return rows.take(mine)

    def _count(self, piece: Piece, rows: BookRows) -> None:
        self._late.update(piece.late)
        self._ahead.update(piece.ahead)
        self._again.update(piece.again)
        if FUTURES_TRADES.name in piece.batches:
            self._traded += volume(piece.batches[FUTURES_TRADES.name], self._contract, self.session.begin_ns)
        if not len(rows.ts_ns):
            return
        self._rows += len(rows.ts_ns)
        self._printed += int(rows.size[rows.kind == PRINT].sum(dtype=np.int64))
        clocked = rows.ts_ns[rows.kind != SNAPSHOT]
        if len(clocked):
            newest = int(clocked[-1])
            self._newest_ns = newest if self._newest_ns is None else max(newest, self._newest_ns)

    def _account(self, rows: BookRows, snap_ns: int, holes: Holes) -> None:
        if holes.books_from_ns is not None:
            self._ledger.forget_book()
            rows = rows.take((rows.ts_ns >= holes.books_from_ns) | (rows.kind == SNAPSHOT))
            self._tape.restart()
        if len(rows.ts_ns):
            self._ledger.work(rows, snap_ns)
        else:
            self._ledger.advance(snap_ns)

    def _market(self, piece: Piece, rows: BookRows, holes: Holes) -> MarketState:
        for begin_ns, end_ns in holes.spans:
            self.market.void(begin_ns, end_ns)
        if self._stock is None:
            printed = rows.take(rows.kind == PRINT) if len(rows.ts_ns) else rows
            prints, quote = Prints(printed.ts_ns, printed.price, printed.size, printed.side), self._touch()
        else:
            prints = self._stock.work(piece.snap_ns, piece.batches, holes.quotes_from_ns)
            quote = self._stock.quote
        self.market.work(piece.snap_ns, prints, quote)
        return self.market.state()

    def _work_options(self, piece: Piece, rows: BookRows, state: MarketState) -> None:
        """Let options of the snap meet the prices of their times."""
        half_tick = self._profile.market.tick / 2
        self._mids = ts_ns, mids = mids_of(rows) if self._stock is None else self._stock.mids
        spots = Spots(ts_ns, np.multiply(mids, half_tick, dtype=np.float64), included=self._stock is None)
        self._options.work(piece.snap_ns, piece.batches, spots, None if state.spot is None else state.spot * half_tick)
        self._gamma = self._options.gamma()

    def _touch(self) -> tuple[int, int] | None:
        """Return bid and ask of the last sound book; None without one, or without one of them."""
        book = self._ledger.book
        touch = None if book is None else (int(book.px[BID, 0]), int(book.px[ASK, 0]))
        return None if touch is None or NO_PRICE in touch else touch

    def _stale(self, snap_ns: int) -> str | None:
        """Return the reason if a stock's clock goes on without the book."""
        if self._stock is None or self._newest_ns is None:
            return None
        return "stale book" if snap_ns - self._newest_ns > self._profile.score.stale_s * NS_PER_SECOND else None

    @property
    def _heard_ns(self) -> int | None:
        """The time of the newest row of the book, or of the stock's quote where that is older."""
        if self._stock is None:
            return self._newest_ns
        quote_ns = self._stock.quote_ns
        return None if self._newest_ns is None or quote_ns is None else min(self._newest_ns, quote_ns)

    def _learn(self, snap_ns: int, ladder: Ladder) -> None:
        """Let a snap count for what is typical, after it was judged by what was typical before."""
        flow_s = self._profile.barrier.flow_s
        since_ns = max(self._ledger.whole_since_ns or snap_ns, self._whole.since_ns)
        flow = flow_of(self._ledger, flow_s) if since_ns <= snap_ns - flow_s * NS_PER_SECOND else None
        self.typical.work(snap_ns, self._ledger.book if ladder.reason in _SOUND else None, flow)

    def _reason(self, void: str | None, holes: Holes, ladder: Ladder) -> str | None:
        unquoted = None if self._stock is None else holes.stock_reason or self._stock.reason
        if void is not None or unquoted is not None:
            return void or unquoted
        if self._rolled and ladder.reason in _BEGINNING:
            return "roll"
        self._rolled = False
        return barrier.REASONS[ladder.reason] or None

    def _head(self, state: MarketState, whole_since_ns: int, reason: str | None) -> dict[str, Any]:
        tick = self._profile.market.tick
        return {
            "snap_ns": state.snap_ns,
            "profile_hash": self._hash,
            "contract": self._contract,
            "spot": None if state.spot is None else state.spot / 2 * tick,
            "bid": None if state.bid is None else state.bid * tick,
            "ask": None if state.ask is None else state.ask * tick,
            "whole_since_ns": whole_since_ns,
            "void_reason": reason,
        }

    def _judged(
        self, state: MarketState, zones: Sequence[Zone], traded: Traded, head: Mapping[str, Any]
    ) -> Columns | None:
        """Judge the levels nearest to the mid; without one, or its ratio to the book's, there are none."""
        profile, snap_ns = self._profile, state.snap_ns
        if state.spot is None or (self._stock is not None and not self._stock.has_ratio):
            self._score.snap(snap_ns, (), score.NOTHING)
            return None
        named = [*state.named, *self._options.named()]
        levels = self._levels.snap(named, zones, state.spot, state.velocity, self._options.strikes_near(state.spot))
        rows = _nearest(levels)
        ids = [levels.id[row] for row in rows.tolist()]
        found = self._barrier.judge(ids, self._places(levels, rows))
        fuel_at = self._options.fuel_at(levels, rows)
        evidence = Evidence(
            found.state, found.coverage, traded.towards(found.side), levels.direction[rows], levels.distance[rows],
            found.flow_coverage[:, 0], (snap_ns - (self._heard_ns or snap_ns)) / NS_PER_SECOND,
            fuel.part(fuel_at.effect),
        )  # fmt: skip
        scores = self._score.snap(snap_ns, ids, evidence)
        strong = is_strong(levels, profile.levels, profile.runway.strong)
        self._given.update(scores.signal[scores.since_ns == snap_ns].tolist())
        rejects = scores.signal == score.REJECT
        ways = runways(levels, strong, rows, rejects, profile.passage.distance_ticks)
        columns = {**head, **_tape(traded, snap_ns), "tape_imbalance": evidence.tape}
        columns |= snap.of_levels(levels, rows, profile.market.tick) | snap.of_barrier(found)
        columns |= snap.of_runways(ways, levels) | snap.of_scores(scores)
        columns |= options.of_gamma(self._gamma, snap_ns) | options.of_fuel(fuel_at)
        prices = np.multiply(levels.price[rows], profile.market.tick, dtype=np.float64)
        columns |= options.of_strikes(self._gamma.strikes, prices)
        return Columns(columns, len(rows))

    def _places(self, levels: LevelRows, rows: NDArray[np.intp]) -> NDArray[np.int32] | NDArray[np.float64]:
        """Return where levels lie in the book, in its ticks."""
        if self._stock is None:
            return levels.price[rows]
        return self._stock.places(levels.price[rows], levels.direction[rows], self._touch())

    def _counters(self) -> Counters:
        return Counters(
            snaps=self._snaps,
            void=self._void,
            rows=self._rows,
            printed=self._printed,
            breaks=self._given[score.BREAK],
            rejects=self._given[score.REJECT],
            contested=self._given[score.CONTESTED],
            traded=self._traded,
            unsided=self._ledger.unsided,
            off_tick=self._off_tick,
            before=self._before,
            unaccounted=self._ledger.late_rows,
            unpriced=0 if self._stock is None else self._stock.unpriced,
            late=dict(self._late),
            ahead=dict(self._ahead),
            again=dict(self._again),
        )


def _stock_of(profile: Profile) -> str | None:
    """Return the ticker of an underlying that is judged by another one's book."""
    return None if profile.book.ratio_s is None else profile.market.underlying


def _begun_stock(profile: Profile, session: Session) -> Stock | None:
    if profile.book.ratio_s is None:
        return None
    return Stock(session, profile.market.tick, profile.score.stale_s, profile.book.ratio_s)


def _nearest(levels: LevelRows) -> NDArray[np.intp]:
    """Return the rows of at most MOST_LEVELS; of two as far where one fits, neither, as the mirror had the other."""
    far = np.abs(levels.distance)
    if len(far) <= MOST_LEVELS:
        return np.arange(len(far))
    return np.flatnonzero(far < np.partition(far, MOST_LEVELS)[MOST_LEVELS])


def _tape(traded: Traded, snap_ns: int) -> dict[str, Any]:
    sweep = traded.sweep
    return {
        "tape_bought": traded.bought,
        "tape_sold": traded.sold,
        "tape_coverage": traded.coverage,
        "tape_velocity_ticks_s": traded.velocity,
        "sweep_direction": None if sweep is None else sweep.direction,
        "sweep_age_ns": None if sweep is None else snap_ns - sweep.ts_ns,
        "sweep_contracts": None if sweep is None else sweep.contracts,
    }
