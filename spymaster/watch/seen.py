"""What the bus has said so far: how streams flow, gaps, the exchange's words, deliveries under way, signals given."""

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock
from spymaster.bus import Published, Skipped
from spymaster.engines.whole import HALTING, RESUMING
from spymaster.events import REFERENCE_STATUS, SYSTEM_CAPTURES, SYSTEM_GAPS, Stream
from spymaster.events.alerts import Alert
from spymaster.lake.gold import LEVELS_SIGNALS
from spymaster.watch.changes import Changes
from spymaster.watch.condition import Status
from spymaster.watch.documents import GapDocument
from spymaster.watch.past import MOST_GAPS, Past, gap_document
from spymaster.watch.streams import Streams

_WORDS: Final = pa.array(sorted({*HALTING, RESUMING}))
_SYSTEM: Final = frozenset({SYSTEM_GAPS.name, SYSTEM_CAPTURES.name})  # of our own rows, what is read
_OTHERS: Final = _SYSTEM | {LEVELS_SIGNALS.name}  # no streams of a source


class Seen:
    """What was seen, of this run and of what `learn` was given of those before.

    Attributes:
        streams: how they flow.
        gaps: by `gap_id`, the newest last; at most `MOST_GAPS`.
        statuses: by contract the exchange's newest word on it.
        captures: deliveries under way.
        recorded: the lake had a row before this run; None until that is known.
    """

    def __init__(self, changes: Changes) -> None:
        """Begin with nothing.

        Args:
            changes: what remembers what was told.
        """
        self.streams = Streams()
        self.gaps: dict[str, GapDocument] = {}
        self.statuses: dict[str, Status] = {}
        self.captures: set[int] = set()
        self.recorded: bool | None = None
        self._changes = changes
        self._endless: dict[str, set[str]] = {}  # by stream its gaps, of which only the begin is on record

    def learn(self, past: Past, began_ns: int) -> Iterator[Alert]:
        """Take what earlier runs recorded; yield the gaps that this run's own start has found."""
        self.recorded = past.recorded
        self._changes.knows([gap for gap, known_ns in past.gaps if known_ns < began_ns])
        own, self.gaps = self.gaps, {gap["gap_id"]: gap for gap, _ in past.gaps}
        self.gaps |= own
        for contract, status in past.statuses.items():
            self._say(contract, status)
        found = [(gap, known_ns) for gap, known_ns in past.gaps if known_ns >= began_ns]
        if found:
            yield from self._changes.gaps([gap for gap, _ in found], found[-1][1])

    def take(self, item: Published | Skipped) -> Iterator[Alert]:
        """Take what the bus has next; yield what is to be told of it."""
        stream = item.stream
        if isinstance(item, Skipped):
            if stream.schema not in _OTHERS:
                self.streams.count(stream, item.rows, item.last_ns)
        elif stream.schema == LEVELS_SIGNALS.name:
            yield from self._changes.snap(item.batch)
        elif stream.schema == SYSTEM_GAPS.name:
            yield from self._take_gaps([gap_document(row) for row in item.batch.to_pylist()])
        elif stream.schema == SYSTEM_CAPTURES.name:
            self._take_captures(item.batch)
        else:
            self.streams.put(stream, item.batch)
            if str(stream) in self._endless:
                self._end_gaps(str(stream), item.batch)
            if stream.schema == REFERENCE_STATUS.name:
                self._take_statuses(item.batch)

    def _take_gaps(self, gaps: Sequence[GapDocument]) -> Iterator[Alert]:
        for gap in gaps:
            self.gaps.pop(gap["gap_id"], None)  # so that the newest is the last
            self.gaps[gap["gap_id"]] = gap
            if gap["start_ns"] is not None and gap["end_ns"] is None:
                self._endless.setdefault(gap["stream"], set()).add(gap["gap_id"])
        yield from self._changes.gaps(gaps, clock.utc_now_ns())
        while len(self.gaps) > MOST_GAPS:
            del self.gaps[next(iter(self.gaps))]

    def _end_gaps(self, stream: str, rows: pa.RecordBatch) -> None:
        """Let a stream's gaps end where it goes on. What is on record of a lost connection is where it was lost."""
        times_ns = rows.column("ts_event_ns").to_numpy()
        waiting = set[str]()
        for gap_id in self._endless.pop(stream):
            gap = self.gaps.get(gap_id)
            if gap is None or gap["start_ns"] is None:
                continue  # of many, among the oldest
            later_ns = times_ns[times_ns > gap["start_ns"]]
            if later_ns.size:
                self.gaps[gap_id] = {**gap, "end_ns": int(later_ns.min())}
            else:
                waiting.add(gap_id)  # rows from before it
        if waiting:
            self._endless[stream] = waiting

    def _take_captures(self, rows: pa.RecordBatch) -> None:
        for row in rows.select(["event", "of_capture_id", "stream_rows", "complete"]).to_pylist():
            if row["event"] == "begin":
                self.captures.add(row["of_capture_id"])
                continue
            self.captures.discard(row["of_capture_id"])
            for name, _ in row["stream_rows"] if row["complete"] else ():
                self.streams.ended(Stream(*name.split("/", 1)))

    def _take_statuses(self, rows: pa.RecordBatch) -> None:
        """Keep the newest word on each contract that is no option."""
        rows = rows.filter(
            pc.and_(pc.is_in(rows.column("action"), value_set=_WORDS), pc.is_null(rows.column("strike")))
        )
        columns = (rows.column(name).to_pylist() for name in ("contract", "action", "ts_event_ns"))
        for contract, word, ts_ns in zip(*columns, strict=True):
            self._say(contract, Status(word, ts_ns))

    def _say(self, contract: str, status: Status) -> None:
        before = self.statuses.get(contract)
        if before is None or before.since_ns <= status.since_ns:
            self.statuses[contract] = status


def wants(stream: Stream, *, signals: bool) -> bool:
    """Whether a stream's rows are looked at.

    Args:
        stream: the stream.
        signals: whether those of levels are.
    """
    if stream.schema == LEVELS_SIGNALS.name:
        return signals
    return not stream.schema.startswith("system.") or stream.schema in _SYSTEM
