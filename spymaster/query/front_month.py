"""Which contract of a root is its front month: the outright that traded most in New York's regular hours.

The choice for a date is point-in-time: it rests on the last earlier date with regular hours in which an outright
traded, which is over before the date's session opens. `as_of="close"` asks for the date's own volume instead. Spreads,
whose names hold `-`, `:` or a space, are never chosen and their volume counts for nobody.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import duckdb

from spymaster import events, paths
from spymaster.errors import UsageError
from spymaster.events import identity
from spymaster.lake import layout, silver
from spymaster.query import sessions

OUTRIGHT: Final = "not regexp_matches(contract, '[-: ]')"  # nor is a contract that no mapping named
_LOOK_BACK_DATES: Final = 10  # dates in the lake that may be read for one choice; a gap in the lake is not counted

Hours = Literal["rth", "all"]
Volumes = tuple[tuple[str, int], ...]


class Trades(Protocol):
    """Where a root's trades are read: each event once, as `ts_event_ns`, `contract` and `size`."""

    tier: str

    def dates(self, root: str) -> list[str]:
        """Return the UTC dates that may hold trades, in order."""

    def of(self, root: str, date: str) -> duckdb.DuckDBPyRelation | None:
        """Return the trades of a UTC date, None where there are none."""


class BronzeTrades:
    """The trades of Bronze, what was delivered more than once counted once.

    Captures that overlap deliver the same trade again. As in Silver, of equal trades there are as many as the capture
    that delivered most of them has.
    """

    tier = "bronze"

    def __init__(self, data_root: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self._data_root = data_root
        self._connection = connection

    def dates(self, root: str) -> list[str]:
        """Return the dates on disk."""
        return layout.dates(self._data_root, events.FUTURES_TRADES, root)

    def of(self, root: str, date: str) -> duckdb.DuckDBPyRelation | None:
        """Return the trades of the date's parts, where they lie or were archived to."""
        within = layout.of_date(root, paths.check_date(date))
        partitions = layout.partitions(self._data_root, events.FUTURES_TRADES, within)
        files = [str(path) for own in partitions for path in silver.bronze_parts(self._data_root, own)]
        if not files:
            return None
        rows = self._connection.read_parquet(files, hive_partitioning=False)
        event = ", ".join(identity.columns_of(events.FUTURES_TRADES))
        delivered = rows.aggregate(f"{event}, capture_id, count(*) as times", f"{event}, capture_id")
        once = delivered.aggregate(f"{event}, max(times) as times", event)
        return once.project("ts_event_ns, contract, size * times as size")


@dataclass(frozen=True)
class FrontMonth:
    """A choice and what it rests on.

    Attributes:
        root: e.g. `ES`.
        date: the date that it is the choice for.
        contract: None where no outright traded that the choice could rest on.
        evidence_date: whose volume decided; the date itself where that was asked for, or where it is the first in the
            lake.
        hours: which trades of that date, `rth` or `all`.
        volumes: contracts traded per outright, the most traded first; of equals the first by name.
        share: the chosen one's part of all their volume.
        dominant: whether the share is at least what the selector asks for.
        tier: where the trades were read.
    """

    root: str
    date: str
    contract: str | None
    evidence_date: str | None
    hours: Hours | None
    volumes: Volumes
    share: float | None
    dominant: bool
    tier: str

    @property
    def point_in_time(self) -> bool:
        """Whether the choice could be made before the date's session."""
        return self.evidence_date != self.date


class ContractSelector:
    """Chooses front months by traded volume.

    Example:
        choice = ContractSelector("data/lake").front_month("ES", "2025-12-22")
        print(choice.contract, choice.share, choice.evidence_date)
    """

    def __init__(self, data_root: str | Path, dominance: float = 0.5, trades: Trades | None = None) -> None:
        """Prepare a selector; nothing is read.

        Args:
            data_root: the lake.
            dominance: the share of the volume from which on a choice is `dominant`.
            trades: where to read them; Bronze if None.

        Raises:
            UsageError: the share is not above 0 and at most 1.
        """
        if not 0 < dominance <= 1:
            raise UsageError(
                f"dominance {dominance} is no share. Nothing was read. Next: give it above 0 and at most 1"
            )
        self._dominance = dominance
        self._trades: Trades = trades or BronzeTrades(Path(data_root), duckdb.connect())

    def front_month(self, root: str, date: str, *, as_of: Literal["open", "close"] = "open") -> FrontMonth:
        """Return the front month of a root for a UTC date, which is also the session that has its regular hours then.

        Args:
            root: e.g. `ES`.
            date: `YYYY-MM-DD`. The lake need not have it.
            as_of: `open` rests on the last earlier date with regular hours in which an outright traded; where the lake
                has none, on the date itself, and then the choice is not `point_in_time`. `close` rests on the date
                itself, and on an earlier one where no outright traded on it. The date itself counts with its regular
                hours, or with all its trades where it has none in them.

        Raises:
            UsageError: the date or `as_of` is not usable.
        """
        day = paths.check_date(date)
        if as_of not in {"open", "close"}:
            raise UsageError(f"as_of {as_of!r} is not known. Nothing was read. Next: give 'open' or 'close'")
        first, second = (self._earlier, self._own) if as_of == "open" else (self._own, self._earlier)
        evidence_date, hours, volumes = first(root, day) or second(root, day) or (None, None, ())
        total = sum(volume for _, volume in volumes)
        share = volumes[0][1] / total if total else None
        return FrontMonth(
            root=root,
            date=day,
            contract=volumes[0][0] if volumes else None,
            evidence_date=evidence_date,
            hours=hours,
            volumes=volumes,
            share=share,
            dominant=share is not None and share >= self._dominance,
            tier=self._trades.tier,
        )

    def front_months(
        self, root: str, start_date: str, end_date: str, *, as_of: Literal["open", "close"] = "open"
    ) -> list[FrontMonth]:
        """Return the choice for each date of the lake that has trades of the root, from start to end, both included.

        Args:
            root: e.g. `ES`.
            start_date: the first date, `YYYY-MM-DD`.
            end_date: the last date, included.
            as_of: as for `front_month`.

        Raises:
            UsageError: a date or `as_of` is not usable.
        """
        first, last = paths.check_date(start_date), paths.check_date(end_date)
        return [self.front_month(root, date, as_of=as_of) for date in self._trades.dates(root) if first <= date <= last]

    def _own(self, root: str, date: str) -> tuple[str, Hours, Volumes] | None:
        span = sessions.calendar().rth_span_ns(date)
        regular = self._volumes(root, date, span) if span is not None else ()
        if regular:
            return date, "rth", regular
        whole = self._volumes(root, date, None)
        return (date, "all", whole) if whole else None

    def _earlier(self, root: str, date: str) -> tuple[str, Hours, Volumes] | None:
        """Find the last earlier date's regular hours. A Sunday evening's trades are already the next session's."""
        before = [earlier for earlier in self._trades.dates(root) if earlier < date]
        for earlier in reversed(before[-_LOOK_BACK_DATES:]):
            span = sessions.calendar().rth_span_ns(earlier)
            volumes = self._volumes(root, earlier, span) if span is not None else ()
            if volumes:
                return earlier, "rth", volumes
        return None

    def _volumes(self, root: str, date: str, span_ns: tuple[int, int] | None) -> Volumes:
        """Return the volume of each outright that traded, of a span or of the whole date."""
        trades = self._trades.of(root, date)
        if trades is None:
            return ()
        traded = trades.filter(OUTRIGHT)
        if span_ns is not None:
            stamp = duckdb.ColumnExpression("ts_event_ns")
            traded = traded.filter(stamp >= duckdb.ConstantExpression(span_ns[0]))
            traded = traded.filter(stamp < duckdb.ConstantExpression(span_ns[1]))
        sums = traded.aggregate("contract, sum(size)::bigint as volume", "contract")
        return tuple(sums.filter("volume > 0").order("volume desc, contract").fetchall())
