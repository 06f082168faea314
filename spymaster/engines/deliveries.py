"""Captures of one stream that follow one another: what comes again, what nobody heard, and whose rows are worked first.

A feed that lost its vendor goes on in another capture. It resumes at a whole time, inclusive, so that the new capture
begins with rows that the old one has told already. Told of an instrument is a capture's newest time, with how many of
its rows had that. Rows of another capture come again until it goes beyond what was told: a later time, or one row more
at the same. From there on it tells, late rows too. Instruments are told apart, so that two captures of two contracts of
one root withhold nothing from each other. A row of a snapshot bears another event's time, and is always worked.

Where a capture's first row is later than all that the others had told, of whatever instrument, nobody listened in
between. Of an instrument alone it would prove nothing, as a capture may say nothing of it for long.

A capture is worked after those that began before it: its id is random, and would order the rows of one instant, half
told by each, one way or the other. So it bears another one here where its own is not above theirs.

All rows since the snap before are looked into at once, capture after capture: those that are known already, then the
others, by their first times. So what comes out does not depend on how the captures' rows were mixed on the way, which
no record says.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOST_CAPTURES: Final = 16  # of a stream; those whose newest row is the oldest are forgotten: they withhold nothing more
MOST_INSTRUMENTS: Final = 4_096  # of a stream; those that were heard of first are forgotten

Times = NDArray[np.int64]
Places = NDArray[np.intp]


class Told(NamedTuple):
    """How far a capture has told of an instrument: its newest time, and how many of its rows had that."""

    ts_ns: int
    rows: int


class Followed(NamedTuple):
    """What there is to know of some rows.

    Attributes:
        again: which of them come again; None where none does.
        missing: spans in which nobody listened, [begin, end).
        order: ids of their captures that ascend as these began; None where their own do.
    """

    again: NDArray[np.bool_] | None
    missing: list[tuple[int, int]]
    order: Times | None


class Deliveries:
    """One stream's captures."""

    def __init__(self) -> None:
        self._newest: dict[int, int] = {}  # by capture, of all instruments
        self._told: dict[str | None, dict[int, Told]] = {}
        self._order: dict[int, int] = {}
        self._last = -1  # of the order

    def follow(
        self, captures: Times, instruments: pa.Array | None, ts_ns: Times, clocked: NDArray[np.bool_]
    ) -> Followed:
        """Look into the rows that left since the snap before.

        Args:
            captures: their capture ids.
            instruments: their instruments; None where the stream has one.
            ts_ns: their times.
            clocked: which of them say when they happened.
        """
        names, codes = _coded(instruments)
        if self._is_alone(captures) and clocked.all():  # as of nearly every snap
            capture = int(captures[0])
            for code, rows in _by_code(codes, np.arange(len(ts_ns))):
                _tell(capture, ts_ns[rows], self._told_of(names[code]))
            self._newest[capture] = max(int(ts_ns.max()), self._newest[capture])
            return Followed(None, [], self._ordered(captures, [capture]))
        again, missing = np.zeros(len(ts_ns), np.bool_), []
        parts = self._by_capture(captures, ts_ns, clocked)
        for capture, places in parts:
            if len(places):
                missing += self._unheard(capture, int(ts_ns[places[0]]))
                for code, rows in _by_code(codes, places):
                    told = self._told_of(names[code])
                    again[rows[: _behind(capture, ts_ns[rows], told)]] = True
                    _tell(capture, ts_ns[rows], told)
                newest_ns = int(ts_ns[places].max())
                self._newest[capture] = max(newest_ns, self._newest.get(capture, newest_ns))
                self._bound()
        self._put_in_order([capture for capture, _ in parts])
        return Followed(
            again if again.any() else None, missing, self._ordered(captures, [capture for capture, _ in parts])
        )

    def _is_alone(self, captures: Times) -> bool:
        """Return whether all rows are of the one capture that is known, so that none can come again."""
        return len(self._newest) == 1 and captures[0] in self._newest and bool((captures == captures[0]).all())

    def _by_capture(self, captures: Times, ts_ns: Times, clocked: NDArray[np.bool_]) -> list[tuple[int, Places]]:
        """Return each capture with its clocked rows, in the order in which they are looked into."""
        if (captures == captures[0]).all():
            return [(int(captures[0]), np.flatnonzero(clocked))]
        found = [(capture, np.flatnonzero(clocked & (captures == capture))) for capture in np.unique(captures).tolist()]
        return sorted(found, key=lambda one: (one[0] not in self._newest, ts_ns[one[1][:1]].tolist()))

    def _told_of(self, name: str | None) -> dict[int, Told]:
        if name not in self._told and len(self._told) >= MOST_INSTRUMENTS:
            del self._told[next(iter(self._told))]
        return self._told.setdefault(name, {})

    def _unheard(self, capture: int, begin_ns: int) -> list[tuple[int, int]]:
        """Return the span before a new capture's first row in which nobody listened."""
        newest_ns = max(self._newest.values(), default=begin_ns)
        return [(newest_ns, begin_ns)] if capture not in self._newest and newest_ns < begin_ns else []

    def _bound(self) -> None:
        if len(self._newest) > MOST_CAPTURES:
            oldest = min(self._newest, key=self._newest.__getitem__)
            del self._newest[oldest]
            for told in self._told.values():
                told.pop(oldest, None)

    def _put_in_order(self, captures: list[int]) -> None:
        for capture in captures:
            if capture not in self._order:
                self._last = self._order[capture] = max(capture, self._last + 1)
        others = [known for known in self._order if known not in captures]
        for known in others[: max(len(self._order) - MOST_CAPTURES, 0)]:
            del self._order[known]

    def _ordered(self, captures: Times, known: list[int]) -> Times | None:
        if all(self._order[capture] == capture for capture in known):
            return None
        ordered = captures.copy()
        for capture in known:
            ordered[captures == capture] = self._order[capture]
        return ordered


def _coded(instruments: Any) -> tuple[list[str | None], NDArray[np.int32] | None]:
    """Return the instruments, and of each row which of them; None where all rows are of one."""
    if instruments is None:
        return [None], None
    coded = instruments.dictionary_encode(null_encoding="encode")
    codes: NDArray[np.int32] = coded.indices.to_numpy()
    return coded.dictionary.to_pylist(), codes if len(coded.dictionary) > 1 else None


def _by_code(codes: NDArray[np.int32] | None, places: Places) -> Iterator[tuple[int, Places]]:
    """Yield each instrument with its rows, in the order in which they left."""
    if codes is None:
        yield 0, places
        return
    order = np.argsort(codes[places], kind="stable")
    ordered = codes[places][order]
    for begin, end in pairwise([0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(ordered)]):
        yield int(ordered[begin]), places[order[begin:end]]


def _behind(capture: int, ts_ns: Times, told: dict[int, Told]) -> int:
    """Return how many rows of a capture, which come first, are not beyond what the others have told."""
    others = max((one for other, one in told.items() if other != capture), default=None)
    own = told.get(capture)
    if others is None or (own is not None and own > others):
        return 0
    at = ts_ns == others.ts_ns
    before = own.rows if own is not None and own.ts_ns == others.ts_ns else 0
    beyond = (ts_ns > others.ts_ns) | (at & (np.cumsum(at) + before > others.rows))
    return int(np.argmax(beyond)) if beyond.any() else len(ts_ns)


def _tell(capture: int, ts_ns: Times, told: dict[int, Told]) -> None:
    newest_ns = int(ts_ns.max())
    rows = int((ts_ns == newest_ns).sum())
    own = told.get(capture)
    if own is None or own.ts_ns < newest_ns:
        told[capture] = Told(newest_ns, rows)
    elif own.ts_ns == newest_ns:
        told[capture] = Told(newest_ns, own.rows + rows)
