"""Writes events from a program, by the same code as the daemon.

`BronzeWriter` takes single events and is meant for scripts; `write(schema, batch)` takes columns and is meant for
volume.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock, events, paths, settings
from spymaster.bus import Bus, Skipped, Subscription
from spymaster.errors import BronzeRefusedError, DiskFullError, SpymasterError, UsageError
from spymaster.events import MARKET_SCHEMAS, EventSchema, Stream
from spymaster.events.captures import Capture, random_capture_id
from spymaster.events.schema import WILDCARD
from spymaster.lake.layout import Tier
from spymaster.recording.capture import OpenCapture
from spymaster.recording.recorder import Recorder

_API_VERSION: Final = 1
# One for each schema: a log a symbol would need as many open files as there are symbols.
STREAMS: Final = tuple(Stream(schema.name, WILDCARD) for schema in MARKET_SCHEMAS)
_FILLED: Final = {"aggressor": 0, "is_snapshot": False, "sample_s": 0}  # what an event that does not say means


class BronzeWriter:
    """Writes events through a log into Bronze, as the daemon does. One process writes a log and a lake.

    Attributes:
        refused_rows: rows in batches of the bus that did not fit their schema or the disk, since it is followed.

    Example:
        writer = BronzeWriter()
        await writer.write_stock_trade(trade)
        await writer.stop()
    """

    def __init__(
        self,
        bus: Bus | None = None,
        data_root: str | None = None,
        buffer_limit: int = 1000,
        flush_interval_seconds: float | None = None,
        use_s3: bool | None = None,
    ) -> None:
        """Prepare a writer; nothing is opened before the first write or `start`.

        Args:
            bus: whose batches are written too, from `start` on.
            data_root: the lake; the settings' if None. The log of another one is at `{data_root}/wal`, unless the
                setting `WAL_ROOT` is made.
            buffer_limit: rows of one schema after which they are flushed to Parquet.
            flush_interval_seconds: after which time they are flushed at the latest; the settings' `FLUSH_INTERVAL_SEC`,
                5.0 s by default, if None.
            use_s3: object storage; refused if true.

        Raises:
            UsageError: a setting is not usable.
        """
        self._settings = settings.load(data_root=data_root, use_s3=use_s3, flush_interval_sec=flush_interval_seconds)
        self._bus = bus
        self._buffer_limit = buffer_limit
        self._opening = asyncio.Lock()  # one writer, one numbering of each stream's rows
        self._recorder: Recorder | None = None
        self._open: OpenCapture | None = None
        self._unflushed: dict[str, int] = {}
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None
        self.refused_rows = 0
        self._first_refusal: SpymasterError | None = None

    async def start(self, bus: Bus | None = None) -> None:
        """Take the locks, recover what a crash left, and follow the bus if there is one.

        Args:
            bus: whose batches are written too; the constructor's if None.

        Raises:
            LockedError: another process records here.
            UsageError: what is to be followed is no `Bus`; nothing was opened.
        """
        followed = bus or self._bus
        if followed is not None and not isinstance(followed, Bus):
            raise UsageError(
                f"bus: a {type(followed).__name__} is no spymaster.bus.Bus. Nothing was opened. Next: publish on a Bus "
                f"and give that, or call the writer's write methods"
            )
        async with self._opening:
            if self._recorder is None:
                recorder = Recorder(
                    self._settings.wal_root,
                    self._settings.data_root,
                    bus=Bus(),
                    flush_interval_s=self._settings.flush_interval_sec,
                    segment_mb=self._settings.wal_segment_size_mb,
                    sync_ms=self._settings.wal_sync_interval_ms,
                    wildcard_flush_s=self._settings.flush_interval_sec,  # its streams are wildcards: `STREAMS`
                    disk_reserve_mb=self._settings.disk_reserve_mb,
                )
                await recorder.start()
                self._recorder = recorder  # only now: without the locks nothing may be written
        if followed is not None and self._reading is None:
            self.refused_rows, self._first_refusal = 0, None
            self._subscription = followed.subscribe()
            self._reading = asyncio.create_task(self._follow(self._subscription))

    async def stop(self) -> None:
        """Flush everything and let the locks go.

        Raises:
            StorageError: the disk refused; the rows are in the log and the next start recovers them.
            UsageError: rows of the bus were refused or came too fast. All others are in Bronze, and the end row of
                their capture says that it is not complete.
        """
        if self._recorder is None:
            return
        recorder, loss = self._recorder, None
        try:
            if self._subscription is not None and self._reading is not None:
                self._subscription.close()  # ends the reading after what is queued
                await self._reading
                loss = _loss(self.refused_rows, self._subscription.dropped_rows, self._first_refusal)
            if (opened := self._open) is not None:  # what was queued may have opened it
                await recorder.end(opened.capture, opened.rows, complete=loss is None, detail=loss)
        finally:
            self._recorder = self._open = self._reading = self._subscription = None
            self._unflushed = {}
            await recorder.stop()
        if loss is not None:
            raise UsageError(loss) from self._first_refusal

    async def write(self, schema: str, batch: pa.RecordBatch) -> None:
        """Append rows as columns; they survive a kill on return and a power cut one sync interval later.

        Waits while more rows than the recorder holds in memory are not durable yet.

        Args:
            schema: of a market, with or without its version.
            batch: the schema's columns by name; optional ones may be absent, and those that are ours to fill
                (`capture_id`, `capture_seq`, `date`, `hour`) are passed over.

        Raises:
            UsageError: a column is missing, unknown, has nulls or does not fit; none of the rows was written. Or a row
                is larger than the log takes (900 KB); it and those behind it were not.
            DiskFullError: the disk has no room for the rest of the rows.
        """
        kind = events.schema_named(schema)
        if kind not in MARKET_SCHEMAS:
            raise UsageError(f"{kind.name} is our own to write. Nothing was written. Next: write a market's events")
        rows = _conform(kind, batch)
        for value in rows[kind.partition_by].unique():  # one per symbol, not per row
            paths.encode_symbol(str(value))  # refuses before anything is written
        opened = await self._opened()
        await opened.append(kind.name, rows)
        self._unflushed[kind.name] = self._unflushed.get(kind.name, 0) + rows.num_rows
        if self._unflushed[kind.name] >= self._buffer_limit:
            await self.flush_schema(kind.name)

    async def write_stock_trade(self, trade: object) -> None:
        """Write a trade of a stock. Raises as `write` does, as do those below.

        Args:
            trade: a mapping, or an object with the schema's fields as attributes; optional ones may be absent. An
                object may have more attributes; a mapping with a key that is no field is refused.
        """
        await self._write_one(events.STOCKS_TRADES, trade)

    async def write_stock_quote(self, quote: object) -> None:
        """Write a quote of a stock.

        Args:
            quote: as for `write_stock_trade`.
        """
        await self._write_one(events.STOCKS_QUOTES, quote)

    async def write_option_trade(self, trade: object) -> None:
        """Write a trade of an option."""
        await self._write_one(events.OPTIONS_TRADES, trade)

    async def write_option_quote(self, quote: object) -> None:
        """Write a quote of an option; without `sample_s` it is a change of the quote."""
        await self._write_one(events.OPTIONS_QUOTES, quote)

    async def write_futures_trade(self, trade: object) -> None:
        """Write a trade of a future."""
        await self._write_one(events.FUTURES_TRADES, trade)

    async def write_futures_mbp10(self, book: object) -> None:
        """Write a future's book of ten levels.

        Args:
            book: as for `write_stock_trade`.
        """
        await self._write_one(events.FUTURES_MBP10, book)

    async def write_greeks_snapshot(self, snapshot: object) -> None:
        """Write what a vendor says of an option's greeks.

        Args:
            snapshot: as for `write_stock_trade`.
        """
        await self._write_one(events.OPTIONS_GREEKS_SNAPSHOTS, snapshot)

    async def write_statistic(self, statistic: object) -> None:
        """Write what an exchange says of an instrument: its open interest, settlement, volatility and the like.

        Args:
            statistic: as for `write_stock_trade`.
        """
        await self._write_one(events.REFERENCE_STATISTICS, statistic)

    async def write_status(self, status: object) -> None:
        """Write the state that an exchange puts an instrument into, such as a halt.

        Args:
            status: as for `write_stock_trade`.
        """
        await self._write_one(events.REFERENCE_STATUS, status)

    async def flush_schema(self, schema_name: str) -> None:
        """Turn the rows of one schema into Parquet, durable on return.

        Args:
            schema_name: with or without its version.

        Raises:
            UsageError: there is no such schema.
            BronzeRefusedError: its disk refused; the rows stay in the log, and get there later.
        """
        name = events.schema_named(schema_name).name
        self._unflushed[name] = 0  # first: a refused flush is not asked for again with each row
        if self._recorder is not None:
            await self._recorder.flush(name)

    async def flush_all(self) -> None:
        """Turn every row written so far into Parquet, durable on return.

        Raises:
            BronzeRefusedError: its disk refused; the rows stay in the log, and get there later.
        """
        if self._recorder is not None:
            await self._recorder.flush()
        self._unflushed.clear()

    def get_bronze_path(self) -> str:
        """Return the folder that the parts lie in."""
        return str(Tier.BRONZE.of(self._settings.data_root))

    async def _write_one(self, kind: EventSchema, event: object) -> None:
        await self.write(kind.name, _row_of(kind, event))

    async def _opened(self) -> OpenCapture:
        if self._recorder is None:
            await self.start()
        assert self._recorder is not None  # noqa: S101  # start made it
        async with self._opening:
            if self._open is None:
                capture = Capture(random_capture_id(), "api", "BronzeWriter", None, _API_VERSION, STREAMS)
                await self._recorder.begin(capture)  # durable before the first row is appended
                self._open = self._recorder.capture(capture)
        return self._open

    async def _follow(self, subscription: Subscription) -> None:
        async for item in subscription:
            if isinstance(item, Skipped):
                continue  # the subscription counts them
            try:
                await self.write(item.stream.schema, item.batch)
            except BronzeRefusedError:
                continue  # they are in the log, and `stop` says what is not in Bronze
            except (UsageError, DiskFullError) as error:  # of these rows alone; the next may fit
                self.refused_rows += item.batch.num_rows
                self._first_refusal = self._first_refusal or error


def _loss(refused_rows: int, dropped_rows: int, first: SpymasterError | None) -> str | None:
    """Return what of the bus was not written, in one line."""
    if refused_rows + dropped_rows == 0:
        return None
    more = f"The first refusal: {first}" if first else "Next: give the bus a larger max_bytes"
    return (
        f"{refused_rows + dropped_rows} rows of the bus were not written: {refused_rows} were refused, {dropped_rows} "
        f"came too fast. All others were. {more}"
    )


def _row_of(kind: EventSchema, event: object) -> pa.RecordBatch:
    """Return an event as a batch of one row, without the columns that it does not say."""
    columns = {}
    if isinstance(event, Mapping):
        _require_known(kind, event)
    for column in kind.delivered:
        filled = _FILLED.get(column.name)
        value = event.get(column.name, filled) if isinstance(event, Mapping) else getattr(event, column.name, filled)
        if value is not None:
            try:
                columns[column.name] = _fitted(_array_of(value, column), column)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise _misfit(kind, column.name, f"{value!r} is no {column.type} ({error})") from error
    return pa.RecordBatch.from_pydict(columns)


def _conform(kind: EventSchema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return `batch` with exactly the schema's columns, in their order."""
    _require_known(kind, batch.schema.names)
    now = clock.utc_now_ns()
    columns: list[pa.Array] = []
    for column in kind.delivered:
        if column.name in batch.schema.names:
            given = batch[column.name]
        elif column.name == "ts_recv_ns" and "ts_event_ns" in batch.schema.names:
            given = batch["ts_event_ns"]
        elif column.name == "source":
            given = pa.repeat("api", batch.num_rows)
        elif column.name == "ts_local_ns":
            given = pa.repeat(now, batch.num_rows)
        elif column.nullable:
            given = pa.nulls(batch.num_rows, column.type)
        else:
            raise _misfit(kind, column.name, "is missing")
        try:
            fitted = _fitted(given, column)
        except (pa.ArrowException, TypeError) as error:
            raise _misfit(kind, column.name, f"is {given.type}, not {column.type} ({error})") from error
        if fitted.null_count and not column.nullable:
            raise _misfit(kind, column.name, "has nulls")
        columns.append(fitted)
    rows = pa.RecordBatch.from_arrays(columns, schema=kind.delivered)
    try:
        rows.validate(full=True)  # a batch that no reader can decode would be in the log for good
    except pa.ArrowException as error:
        raise _misfit(kind, "one of its columns", f"does not decode ({error})") from error
    return rows


def _require_known(kind: EventSchema, names: Iterable[str]) -> None:
    """Refuse a misspelt name, whose value would be lost without a word."""
    known = kind.bronze.names
    for name in names:
        if name not in known:
            raise _misfit(kind, name, "is not known")


def _array_of(value: object, column: pa.Field) -> pa.Array:
    """Return a column of one value. A moment of pandas has nanoseconds, which Arrow cuts where it finds the type."""
    if isinstance(value, datetime) and column.name.endswith("_ns"):
        return pa.array([value], pa.timestamp("ns"), from_pandas=True)
    return pa.array([value])


def _fitted(given: pa.Array, column: pa.Field) -> pa.Array:
    """Return values in a column's type, none of whose meaning changes: a time of any unit is the same moment.

    What is not a number is null, as pandas says it.

    Raises:
        pa.ArrowException, TypeError: they do not fit.
    """
    kind, is_time = column.type, column.name.endswith("_ns")
    if pa.types.is_dictionary(given.type):
        given = given.cast(given.type.value_type)
    if pa.types.is_timestamp(given.type) and pa.types.is_integer(kind):
        if not is_time:
            raise TypeError("it is a time")
        return given.cast(pa.timestamp("ns", given.type.tz)).cast(pa.int64()).cast(kind)
    if pa.types.is_temporal(given.type) and pa.types.is_integer(kind):  # it would be a count of its own unit
        raise TypeError("it is a date, a time of day or a duration")
    if pa.types.is_floating(given.type):
        if is_time or pa.types.is_string(kind) or pa.types.is_boolean(kind):
            raise TypeError("a float holds no nanoseconds" if is_time else "it is a number")
        given = pc.if_else(pc.is_nan(given), pa.scalar(None, given.type), given)
    elif pa.types.is_boolean(given.type) and not pa.types.is_boolean(kind):
        raise TypeError("it is true or false")
    return given.cast(kind)


def _misfit(kind: EventSchema, name: str, reason: str) -> UsageError:
    return UsageError(
        f"{kind.name}: field {name!r} {reason}. Nothing of this call was written. "
        f"Next: compare with spymaster.events.schema_named({kind.name!r}).log"
    )
