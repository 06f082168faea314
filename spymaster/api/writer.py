"""Writes events from a program, by the same code as the daemon.

`BronzeWriter` takes single events and is meant for scripts; `write(schema, batch)` takes columns and is meant for
volume.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from spymaster import clock, events, paths, settings
from spymaster.bus import Bus, Skipped, Subscription
from spymaster.errors import UsageError
from spymaster.events import EventSchema, Stream
from spymaster.events.captures import Capture, random_capture_id
from spymaster.lake.layout import Tier
from spymaster.recording.recorder import RecordedRows, Recorder

_API_VERSION: Final = 1
_FILLED: Final = {"aggressor": 0, "is_snapshot": False}  # what an event that does not say means


class BronzeWriter:
    """Writes events through a log into Bronze, as the daemon does. One process writes a log and a lake.

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
        flush_interval_seconds: float = 5.0,
        use_s3: bool | None = None,
    ) -> None:
        """Prepare a writer; nothing is opened before the first write or `start`.

        Args:
            bus: whose batches are written too, from `start` on.
            data_root: the lake; the settings' if None. The log is the settings' `WAL_ROOT`.
            buffer_limit: rows of one schema after which they are flushed to Parquet.
            flush_interval_seconds: after which time they are flushed at the latest.
            use_s3: object storage; refused if true.

        Raises:
            UsageError: a setting is not usable.
        """
        self._settings = settings.load(data_root=data_root, use_s3=use_s3, flush_interval_sec=flush_interval_seconds)
        self._bus = bus
        self._buffer_limit = buffer_limit
        self._opening = asyncio.Lock()  # one writer, one numbering of each stream's rows
        self._recorder: Recorder | None = None
        self._capture = random_capture_id()
        self._streams: dict[Stream, RecordedRows] = {}
        self._unflushed: dict[str, int] = {}
        self._subscription: Subscription | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, bus: Bus | None = None) -> None:
        """Take the locks, recover what a crash left, and follow the bus if there is one.

        Raises:
            LockedError: another process records here.
        """
        async with self._opening:
            if self._recorder is None:
                recorder = Recorder(
                    self._settings.wal_root,
                    self._settings.data_root,
                    bus=Bus(),
                    flush_interval_s=self._settings.flush_interval_sec,
                    segment_mb=self._settings.wal_segment_size_mb,
                    sync_ms=self._settings.wal_sync_interval_ms,
                    disk_reserve_mb=self._settings.disk_reserve_mb,
                )
                await recorder.start()
                self._recorder = recorder  # only now: without the locks nothing may be written
        followed = bus or self._bus
        if followed is not None and self._reading is None:
            self._subscription = followed.subscribe()
            self._reading = asyncio.create_task(self._follow(self._subscription))

    async def stop(self) -> None:
        """Flush everything and let the locks go.

        Raises:
            StorageError: the disk refused; the rows are in the log and the next start recovers them.
        """
        if self._recorder is None:
            return
        recorder = self._recorder
        try:
            if self._subscription is not None and self._reading is not None:
                self._subscription.close()  # ends the reading after what is queued
                await self._reading
            if self._streams:
                counts = {stream: rows.rows.next_seq for stream, rows in self._streams.items()}
                await recorder.end(self._announced(), counts, complete=True, detail=None)
        finally:
            self._recorder = self._reading = self._subscription = None
            self._streams, self._unflushed, self._capture = {}, {}, random_capture_id()
            await recorder.stop()

    async def write(self, schema: str, batch: pa.RecordBatch) -> None:
        """Append rows as columns; they survive a kill on return and a power cut one sync interval later.

        Args:
            schema: with or without its version.
            batch: the schema's columns by name, without `capture_id` and `capture_seq`; optional ones may be absent.

        Raises:
            UsageError: a column is missing, has nulls or does not fit; none of the rows was written.
        """
        kind = events.schema_named(schema)
        rows = _conform(kind, batch)
        symbols = rows[kind.partition_by]
        for value in symbols.unique():
            paths.encode_symbol(str(value))  # refuses before anything is written
        for value in symbols.unique():  # one per symbol, not per row
            own = rows.filter(pc.equal(symbols, value))
            (await self._stream(Stream(kind.name, str(value)))).append(own)
        self._unflushed[kind.name] = self._unflushed.get(kind.name, 0) + rows.num_rows
        if self._unflushed[kind.name] >= self._buffer_limit:
            await self.flush_schema(kind.name)

    async def write_stock_trade(self, trade: object) -> None:
        """Write one event: a mapping, or an object with the schema's fields as attributes. So do those below."""
        await self._write_one(events.STOCKS_TRADES, trade)

    async def write_stock_quote(self, quote: object) -> None:
        await self._write_one(events.STOCKS_QUOTES, quote)

    async def write_option_trade(self, trade: object) -> None:
        await self._write_one(events.OPTIONS_TRADES, trade)

    async def write_futures_trade(self, trade: object) -> None:
        await self._write_one(events.FUTURES_TRADES, trade)

    async def write_futures_mbp10(self, book: object) -> None:
        await self._write_one(events.FUTURES_MBP10, book)

    async def write_greeks_snapshot(self, snapshot: object) -> None:
        await self._write_one(events.OPTIONS_GREEKS_SNAPSHOTS, snapshot)

    async def flush_schema(self, schema_name: str) -> None:
        """Turn the rows of one schema into Parquet, durable on return."""
        name = events.schema_named(schema_name).name
        if self._recorder is not None:
            await self._recorder.flush(name)
        self._unflushed[name] = 0

    async def flush_all(self) -> None:
        """Turn every row written so far into Parquet, durable on return."""
        if self._recorder is not None:
            await self._recorder.flush()
        self._unflushed.clear()

    def get_bronze_path(self) -> str:
        return str(Tier.BRONZE.of(self._settings.data_root))

    async def _write_one(self, kind: EventSchema, event: object) -> None:
        columns = {}
        for column in kind.delivered:
            filled = _FILLED.get(column.name)
            if isinstance(event, Mapping):
                value = event.get(column.name, filled)
            else:
                value = getattr(event, column.name, filled)
            if value is not None:
                try:
                    columns[column.name] = pa.array([value], column.type)
                except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                    raise _misfit(kind, column.name, f"{value!r} is no {column.type} ({error})") from error
        await self.write(kind.name, pa.RecordBatch.from_pydict(columns))

    async def _stream(self, stream: Stream) -> RecordedRows:
        if self._recorder is None:
            await self.start()
        assert self._recorder is not None  # noqa: S101  # start made it
        async with self._opening:
            if stream not in self._streams:
                await self._recorder.begin(self._announced(stream))  # durable before the first row is appended
                self._streams[stream] = await self._recorder.capture_rows(stream, self._capture)
        return self._streams[stream]

    def _announced(self, *new: Stream) -> Capture:
        streams = (*self._streams, *new)
        return Capture(self._capture, "api", "BronzeWriter", None, _API_VERSION, streams)

    async def _follow(self, subscription: Subscription) -> None:
        async for item in subscription:
            if not isinstance(item, Skipped):
                await self.write(item.stream.schema, item.batch)


def _conform(kind: EventSchema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return `batch` with exactly the schema's columns, in their order."""
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
        if given.null_count and not column.nullable:
            raise _misfit(kind, column.name, "has nulls")
        try:
            columns.append(given.cast(column.type))
        except pa.ArrowException as error:
            raise _misfit(kind, column.name, f"is {given.type}, not {column.type} ({error})") from error
    rows = pa.RecordBatch.from_arrays(columns, schema=kind.delivered)
    try:
        rows.validate(full=True)  # a batch that no reader can decode would be in the log for good
    except pa.ArrowException as error:
        raise _misfit(kind, "one of its columns", f"does not decode ({error})") from error
    return rows


def _misfit(kind: EventSchema, name: str, reason: str) -> UsageError:
    return UsageError(
        f"{kind.name}: field {name!r} {reason}. Nothing of this call was written. "
        f"Next: compare with spymaster.events.schema_named({kind.name!r}).log"
    )
