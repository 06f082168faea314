"""What one pass over a session's snaps leaves: the universe as it stood, every touch with all that was known at it, the
touches of random levels, and what became of both.

Nothing is computed here a second time: a touch's row is the engines' own, of the snap at which it was.
"""

import hashlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.lake.datasets import CONTROLS, LEVELS, OUTCOMES, TOUCHES, DataSet
from spymaster.signals.datasets.control import Control
from spymaster.signals.datasets.passages import Mids, Touched

MADE: Final = (LEVELS, TOUCHES, CONTROLS, OUTCOMES)  # together
_AS_IT_STOOD: Final = ["id", "ids", "kinds", "price", "fixed", "level_whole"]
_OF_TOUCH: Final = ["touch_id", "snap_ns", "price", "direction"]
_OF_SNAP: Final = ("snap_ns", "profile_hash", "contract", "spot", "bid", "ask", "void_reason")


class Pass(NamedTuple):
    """The tables of one pass: the columns of the data sets but their keys."""

    levels: pa.Table
    touches: pa.Table
    controls: pa.Table
    outcomes: pa.Table

    def of(self, dataset: DataSet) -> pa.Table:
        """Return the table of a data set."""
        table: pa.Table = getattr(self, dataset.name)
        return table


def touch_id(profile_hash: str, date: str, level: str, snap_ns: int) -> str:
    """Return what names a touch: of one profile, session, level and snap there is one at most."""
    return hashlib.sha256(f"{profile_hash}|{date}|{level}|{snap_ns}".encode()).hexdigest()[:32]


def collect(snaps: Iterable[tuple[str, Snap | None]], profile: Profile, session: Session, known_by: str) -> Pass:
    """Return what the snaps of a session leave.

    Memory: 16 bytes for each change of the mid, and a row for each touch and for each change of a level.

    Args:
        snaps: in order, each behind its mark; None where the judge had ended.
        profile: by whose numbers they were judged.
        session: which one.
        known_by: `record` where it is on record what each had seen, else `known time`.
    """
    universe, mids, control = _Universe(), Mids(), Control(profile, session.date)
    touches: list[pa.Table] = []
    controls: list[dict[str, Any]] = []
    for mark, snap in snaps:
        if snap is None:
            continue
        universe.add(snap)
        mids.add(snap)
        touched: Any = snap.levels.column("touched")
        if touched.true_count:
            touches.append(_touches(snap.levels.filter(touched), session, known_by, mark))
        head = {name: getattr(snap, name) for name in _OF_SNAP}
        for row in control.touched(snap):
            own = touch_id(snap.profile_hash, session.date, str(row["id"]), snap.snap_ns)
            controls.append({"touch_id": own, "known_by": known_by, "mark": mark, **head, **row})
    found = pa.concat_tables([_own(TOUCHES).empty_table(), *touches])
    beside = pa.Table.from_pylist(controls, _own(CONTROLS))
    every = pa.concat_tables([found.select(_OF_TOUCH), beside.select(_OF_TOUCH)])
    both = Touched(
        [str(each) for each in every["touch_id"].to_pylist()],
        every["snap_ns"].to_numpy(),
        np.rint(every["price"].to_numpy() / profile.market.tick).astype(np.int64),
        every["direction"].to_numpy().astype(np.int64),
    )
    return Pass(universe.rows(), found, beside, mids.outcomes(both, profile.passage))


def _own(dataset: DataSet) -> pa.Schema:
    return pa.schema([column for column in dataset.columns if column.name not in dataset.keys])


def _touches(rows: pa.RecordBatch, session: Session, known_by: str, mark: str) -> pa.Table:
    named = zip(*(rows.column(name).to_pylist() for name in ("profile_hash", "id", "snap_ns")), strict=True)
    ids = [touch_id(of, session.date, level, snap_ns) for of, level, snap_ns in named]
    columns = [pa.array(ids), pa.repeat(known_by, len(ids)), pa.repeat(mark, len(ids)), *rows.columns]
    return pa.table(columns, schema=_own(TOUCHES))


class _Universe:
    """The levels as they stood: for each that is there what it is, since which snap, and the newest one that had it."""

    def __init__(self) -> None:
        self._stood: pa.RecordBatch | None = None  # at the newest snap
        self._open: dict[str, tuple[dict[str, Any], int]] = {}
        self._newest_ns = 0
        self._rows: list[dict[str, Any]] = []

    def add(self, snap: Snap) -> None:
        stands = snap.levels.select(_AS_IT_STOOD)
        if self._stood is None or not stands.equals(self._stood):
            self._change({row["id"]: row for row in stands.to_pylist()}, snap.snap_ns)
            self._stood = stands
        self._newest_ns = snap.snap_ns

    def _change(self, now: dict[str, dict[str, Any]], snap_ns: int) -> None:
        for name, (row, _) in list(self._open.items()):
            if now.get(name) != row:
                self._close(name)
        for name, row in now.items():
            self._open.setdefault(name, (row, snap_ns))

    def _close(self, name: str) -> None:
        row, from_ns = self._open.pop(name)
        self._rows.append({**row, "from_ns": from_ns, "to_ns": self._newest_ns})

    def rows(self) -> pa.Table:
        """End it; return its rows by when they began, then by price."""
        for name in list(self._open):
            self._close(name)
        self._rows.sort(key=lambda row: (row["from_ns"], row["price"]))
        return pa.Table.from_pylist(self._rows, _own(LEVELS))
