"""The user's hot zones: of rows of `system.zones` the newest of each name says where it is, or that it is gone."""

import math
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from spymaster.engines.levels import Zone
from spymaster.errors import UsageError
from spymaster.events.zones import SET
from spymaster.query.as_seen import Track
from spymaster.query.lake import Lake

MOST_ZONES: Final = 64  # of an underlying: more than a screen could show
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def recorded(data_root: Path, wal_root: Path) -> pa.Table:
    """Return what `Zones.read` takes, oldest first by our clock: a session that is played again has times of its own.

    Raises:
        SpymasterError, OSError: they cannot be read.
    """
    with Lake(data_root, wal_root) as lake:
        columns = "underlying, zone, event, price, capture_id, capture_seq"
        query = f"select {columns} from system_zones order by ts_recv_ns, capture_seq"  # noqa: S608  # names of ours
        rows: pa.Table = lake.sql(query).to_arrow_table()
        return rows


class Zones:
    """The hot zones of one underlying.

    Attributes:
        prices: by name, in the underlying's unit.
        read_to: the capture id and number of the newest row that was read; None before the first that has them.
    """

    def __init__(self, underlying: str, tick: float) -> None:
        self.prices: dict[str, float] = {}
        self.read_to: tuple[int, int] | None = None
        self._read: dict[int, int] = {}  # by capture id, the number of the last row
        self._underlying, self._tick = underlying, tick

    def read(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take rows of `system.zones`, oldest first; those of another underlying, or read before, count nothing."""
        columns = ("underlying", "zone", "event", "price")
        names = [each for each in ("capture_id", "capture_seq") if each in rows.schema.names]
        keys: list[Any] = [rows.column(each).to_pylist() for each in names]
        values = zip(*(rows.column(each).to_pylist() for each in columns), strict=True)
        for at, (underlying, name, event, price) in enumerate(values):
            if keys and not self._is_new((keys[0][at], keys[1][at])):
                continue
            if underlying == self._underlying:
                self.prices.pop(name, None)
                if event == SET:
                    self.prices[name] = price

    def _is_new(self, key: tuple[int, int]) -> bool:
        capture_id, seq = key
        if seq <= self._read.get(capture_id, -1):
            return False
        self._read[capture_id] = seq
        self.read_to = key
        return True

    def at(self) -> tuple[Zone, ...]:
        """Return them as the engines take them."""
        return tuple(Zone(name, round(price / self._tick)) for name, price in sorted(self.prices.items()))

    def check(self, name: object, price: object) -> tuple[str, float]:
        """Return a zone that may be set, its price on a whole tick.

        Raises:
            UsageError: name or price is none, or there are too many.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is no name of a zone. Nothing was set. Next: 1 to 32 letters, digits, _ . or -, the first "
                f"a letter or digit"
            )
        number = float(price) if isinstance(price, int | float) and not isinstance(price, bool) else math.nan
        ticks = round(number / self._tick) if math.isfinite(number) else 0
        if not 0 < ticks < 2**31:
            raise UsageError(
                f"{price!r} is no price of a zone. Nothing was set. Next: give one in the unit of {self._underlying}"
            )
        if name not in self.prices and len(self.prices) >= MOST_ZONES:
            raise UsageError(f"there are {MOST_ZONES} zones. Nothing was set. Next: spymaster zone remove one of them")
        return name, round(ticks * self._tick, 6)  # a product of floats, 594.2300000000001

    def known(self, name: object) -> str:
        """Return the name of a zone that is set.

        Raises:
            UsageError: there is none.
        """
        if not isinstance(name, str) or name not in self.prices:
            raise UsageError(f"there is no zone {name!r}. Nothing was removed. Next: spymaster zone list")
        return name


class ZonesAsSeen:
    """The hot zones as recorded snaps had seen them, asked for in their order."""

    def __init__(self, zones: Zones, rows: pa.Table, tracks: Mapping[int, Track]) -> None:
        """Begin before the first snap.

        Args:
            zones: none yet.
            rows: as `recorded` returns them.
            tracks: by capture id, how far each of theirs had been read.
        """
        self._zones, self._rows = zones, rows
        keys = zip(rows.column("capture_id").to_pylist(), rows.column("capture_seq").to_pylist(), strict=True)
        place = {key: at for at, key in enumerate(keys)}
        found = [
            (number, place[capture, seq])
            for capture, track in tracks.items()
            for number, seq in zip(track.at.tolist(), track.last_seq.tolist(), strict=True)
            if (capture, seq) in place  # else damage took it
        ]
        self._ends = deque(sorted(found))
        self._done = 0

    def at(self, number: int) -> tuple[Zone, ...]:
        """Return those of a snap, by its number."""
        while self._ends and self._ends[0][0] <= number:
            end = self._ends.popleft()[1] + 1
            self._zones.read(self._rows.slice(self._done, max(end - self._done, 0)))
            self._done = max(self._done, end)
        return self._zones.at()
