"""The user's hot zones: of rows of `system.zones` the newest of each name says where it is, or that it is gone."""

import math
import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from spymaster.engines.levels import Zone
from spymaster.errors import UsageError
from spymaster.events.zones import SET
from spymaster.query.lake import Lake

MOST_ZONES: Final = 64  # of an underlying: more than a screen could show
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def recorded(data_root: Path, wal_root: Path) -> pa.Table:
    """Return what `Zones.read` takes, oldest first by our clock: a session that is played again has times of its own.

    Raises:
        SpymasterError, OSError: they cannot be read.
    """
    with Lake(data_root, wal_root) as lake:
        query = "select underlying, zone, event, price from system_zones order by ts_recv_ns, capture_seq"
        rows: pa.Table = lake.sql(query).to_arrow_table()
        return rows


class Zones:
    """The hot zones of one underlying.

    Attributes:
        prices: by name, in the underlying's unit.
    """

    def __init__(self, underlying: str, tick: float) -> None:
        self.prices: dict[str, float] = {}
        self._underlying, self._tick = underlying, tick

    def read(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take rows of `system.zones`, oldest first. Rows of another underlying count nothing."""
        columns = ("underlying", "zone", "event", "price")
        for underlying, name, event, price in zip(*(rows.column(each).to_pylist() for each in columns), strict=True):
            if underlying == self._underlying:
                self.prices.pop(name, None)
                if event == SET:
                    self.prices[name] = price

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
