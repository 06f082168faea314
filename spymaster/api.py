"""The classes that users import, over log and lake.

They write and read what the daemon does, by the same code. `BronzeWriter` takes single events and is meant for
scripts; `write(schema, batch)` takes columns and is meant for volume.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spymaster import clock, events, paths, settings
from spymaster.bus import Bus, Skipped, Subscription
from spymaster.compaction import compactor
from spymaster.compaction.compactor import THREADS, Compacted, Progress
from spymaster.errors import BronzeRefusedError, UsageError
from spymaster.events import MARKET_SCHEMAS, EventSchema, Stream
from spymaster.events.captures import Capture, random_capture_id
from spymaster.lake.catalog import Catalog
from spymaster.lake.locks import writer_locks
from spymaster.query.bronze_rows import Form, Reader
from spymaster.query.lake import Lake
from spymaster.query.silver_rows import SilverRows
from spymaster.recording.recorder import RecordedRows, Recorder
from spymaster.recording.recovery import Recovered, recover

_API_VERSION: Final = 1
_FILLED: Final = {"aggressor": 0, "is_snapshot": False}  # what an event that does not say means


def connect(data_root: str | Path | None = None, wal_root: str | Path | None = None) -> Lake:
    """Open lake and log for SQL, also beside a running daemon; see `Lake`.

    Example:
        with spymaster.connect() as lake:
            print(lake.sql("select contract, count(*) from futures_trades group by all"))
    """
    loaded = settings.load(data_root=data_root, wal_root=wal_root)
    return Lake(loaded.data_root, loaded.wal_root)


class RecoveredEvents:
    """What `WALManager.recover_all` brought to Bronze. `len` counts rows; iteration yields them in event-time order.

    Attributes:
        report: what recovery found and did.
    """

    def __init__(self, report: Recovered, bronze: Path) -> None:
        self.report = report
        self._bronze = bronze

    def __len__(self) -> int:
        return self.report.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield one mapping per row, a batch of each part in memory at a time."""
        parts = (self._rows(part.relative) for part in self.report.parts)
        yield from heapq.merge(*parts, key=lambda row: row["ts_event_ns"])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as columns, part by part, each sorted by `ts_event_ns`."""
        for part in self.report.parts:
            with pq.ParquetFile(self._bronze / part.relative) as file:
                yield from file.iter_batches()

    def _rows(self, relative: str) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self._bronze / relative) as file:
            for batch in file.iter_batches(batch_size=1_000):
                columns = batch.to_pydict()
                for values in zip(*columns.values(), strict=True):
                    yield dict(zip(columns, values, strict=True))


class WALManager:
    """The write-ahead log as a whole, for scripts and notebooks.

    Example:
        recovered = WALManager().recover_all()
        print(f"Recovered {len(recovered)} unflushed events")
    """

    def __init__(self, wal_root: str | Path | None = None, data_root: str | Path | None = None) -> None:
        loaded = settings.load(wal_root=wal_root, data_root=data_root)
        self._wal_root, self._data_root = loaded.wal_root, loaded.data_root

    def recover_all(self, progress: Callable[[int, int], None] | None = None) -> RecoveredEvents:
        """Drain everything that a crash left into Bronze. A second call finds nothing.

        Raises:
            LockedError: a daemon records here; names its pid.
            UsageError: a folder cannot be written.
        """
        bronze = self._data_root / "bronze"
        with writer_locks(self._wal_root, self._data_root):
            catalog = Catalog(self._data_root)
            try:
                report = recover(self._wal_root, catalog, bronze, random_capture_id(), progress)
            finally:
                catalog.close()
        return RecoveredEvents(report, bronze)


class BronzeWriter:
    """Writes events through a log into Bronze, as the daemon does. One process writes a log and a lake.

    Attributes:
        refused_rows: rows in batches of the bus that did not fit their schema, since it is followed.

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
        self.refused_rows = 0
        self._first_refusal: UsageError | None = None

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
        recorder = self._recorder
        loss = None
        try:
            if self._subscription is not None and self._reading is not None:
                self._subscription.close()  # ends the reading after what is queued
                await self._reading
                loss = self._loss(self._subscription.dropped_rows)
            if self._streams:
                counts = {stream: rows.rows.next_seq for stream, rows in self._streams.items()}
                await recorder.end(self._announced(), counts, complete=loss is None, detail=loss)
        finally:
            self._recorder = self._reading = self._subscription = None
            self._streams, self._unflushed, self._capture = {}, {}, random_capture_id()
            await recorder.stop()
        if loss is not None:
            raise UsageError(loss) from self._first_refusal

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
        self._unflushed[name] = 0  # first: a refused flush is not asked for again with each row
        if self._recorder is not None:
            await self._recorder.flush(name)

    async def flush_all(self) -> None:
        """Turn every row written so far into Parquet, durable on return."""
        if self._recorder is not None:
            await self._recorder.flush()
        self._unflushed.clear()

    def get_bronze_path(self) -> str:
        return str(self._settings.data_root / "bronze")

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
            if isinstance(item, Skipped):
                continue  # the subscription counts them
            try:
                await self.write(item.stream.schema, item.batch)
            except BronzeRefusedError:
                continue  # they are in the log, and `stop` says what is not in Bronze
            except UsageError as error:  # of these rows alone; the next may fit
                self.refused_rows += item.batch.num_rows
                self._first_refusal = self._first_refusal or error

    def _loss(self, dropped_rows: int) -> str | None:
        """Return what of the bus was not written, in one line."""
        if self.refused_rows + dropped_rows == 0:
            return None
        refused, first = self.refused_rows, self._first_refusal
        cause = f"The first refusal: {first}" if first else "Next: give the bus a larger max_bytes"
        return (
            f"{refused + dropped_rows} rows of the bus were not written: {refused} were refused, {dropped_rows} came "
            f"too fast. All others were. {cause}"
        )


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


class BronzeReader:
    """Reads Bronze: pandas frames, or Arrow, polars or DuckDB relations: `BronzeReader().arrow().read_...`.

    Spans are half-open in `ts_event_ns`, dates are UTC. An empty span is an empty frame.
    """

    def __init__(self, data_root: str | Path | None = None, form: Form = "pandas") -> None:
        self._data_root = settings.load(data_root=data_root).data_root
        self._reader = Reader(self._data_root, form)

    def arrow(self) -> "BronzeReader":
        """Return a reader whose results are `pyarrow.Table`."""
        return BronzeReader(self._data_root, "arrow")

    def polars(self) -> "BronzeReader":
        """Return a reader whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return BronzeReader(self._data_root, "polars")

    def relation(self) -> "BronzeReader":
        """Return a reader whose results are DuckDB relations, not yet executed."""
        return BronzeReader(self._data_root, "relation")

    def read(
        self,
        schema: str,
        symbol: str,
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Return rows of any schema, of one partition value: a root symbol or an underlying."""
        return self._reader.read(schema, symbol, date, start_ns, end_ns, columns)

    def read_futures_trades(
        self,
        symbol: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        front_month_only: bool = True,
        specific_contract: str | None = None,
    ) -> pd.DataFrame:
        """Return trades of a root: of each date's most traded outright, of one contract, or of all."""
        return self._reader.read(
            "futures.trades", symbol, date, start_ns, end_ns,
            contract=specific_contract, front_month_only=front_month_only,
        )  # fmt: skip

    def read_futures_mbp10(
        self,
        symbol: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        front_month_only: bool = True,
        specific_contract: str | None = None,
    ) -> pd.DataFrame:
        """Return books of a root, chosen as the trades are."""
        return self._reader.read(
            "futures.mbp10", symbol, date, start_ns, end_ns,
            contract=specific_contract, front_month_only=front_month_only,
        )  # fmt: skip

    def read_option_trades(
        self,
        underlying: str = "ES",
        date: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> pd.DataFrame:
        """Return trades of every option on an underlying."""
        return self._reader.read("options.trades", underlying, date, start_ns, end_ns)

    def get_available_dates(self, schema_path: str, partition_key: str) -> list[str]:
        """Return the dates on disk, in order, e.g. of `("futures/trades", "symbol=ES")`."""
        return self._reader.dates(schema_path, partition_key)

    def get_latest_date(self, schema_path: str, partition_key: str) -> str | None:
        """Return the last of these dates, or None."""
        return next(reversed(self.get_available_dates(schema_path, partition_key)), None)


class SilverReader:
    """Reads the market, each event once: pandas frames, or as asked: `SilverReader().arrow().read_date(...)`.

    Hours that are not compacted yet, or changed since, come from Bronze and log, so that a date reads the same before
    and after it was compacted. Dates are UTC, spans half-open in `ts_event_ns`. One thread uses a reader.

    Example:
        df = SilverReader().read_date("2025-12-22", schema="futures.trades")
    """

    def __init__(
        self, data_root: str | Path | None = None, wal_root: str | Path | None = None, form: Form = "pandas"
    ) -> None:
        loaded = settings.load(data_root=data_root, wal_root=wal_root)
        self._lake = Lake(loaded.data_root, loaded.wal_root)
        self._rows = SilverRows(self._lake, form)

    def arrow(self) -> "SilverReader":
        """Return a reader, over the same connection, whose results are `pyarrow.Table`."""
        return self._as("arrow")

    def polars(self) -> "SilverReader":
        """Return one whose results are `polars.DataFrame`. Needs the extra `spymaster[polars]`."""
        return self._as("polars")

    def relation(self) -> "SilverReader":
        """Return one whose results are DuckDB relations, not yet executed, each good until the next read."""
        return self._as("relation")

    def _as(self, form: Form) -> "SilverReader":
        other = copy(self)
        other._rows = SilverRows(self._lake, form)
        return other

    def read_date(
        self,
        date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Return one date's rows of a schema, of all symbols or of one; `options.trades` come with greeks."""
        return self._rows.read(schema, date, date, symbol, start_ns, end_ns, columns)

    def read_date_range(
        self,
        start_date: str,
        end_date: str,
        schema: str,
        symbol: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """Return the rows of some dates, both included."""
        return self._rows.read(schema, start_date, end_date, symbol, start_ns, end_ns, columns)


class SilverCompactor:
    """Makes Silver of Bronze: every event once. May work beside a running daemon; one process compacts at a time.

    Each call returns one result per partition: its status, rows in and out, the counts, bytes, seconds and MB/s.

    Example:
        SilverCompactor().compact_date("2025-12-22", schema="futures.trades")
    """

    def __init__(self, data_root: str | Path | None = None, threads: int = THREADS) -> None:
        loaded = settings.load(data_root=data_root)
        self._data_root, self._threads = loaded.data_root, threads
        self._tolerance_ns = round(loaded.greeks_tolerance_sec * clock.NS_PER_SECOND)

    def compact_date(self, date: str, schema: str, progress: Progress | None = None) -> list[Compacted]:
        """Compact one UTC date of one schema."""
        return self._compact([events.schema_named(schema)], date, date, progress)

    def compact_all_schemas(self, date: str, progress: Progress | None = None) -> list[Compacted]:
        """Compact one UTC date of every market schema."""
        return self._compact(MARKET_SCHEMAS, date, date, progress)

    def compact_all_dates(
        self, schema: str, start_date: str | None = None, end_date: str | None = None, progress: Progress | None = None
    ) -> list[Compacted]:
        """Compact every UTC date of one schema, or those between two, both included."""
        return self._compact([events.schema_named(schema)], start_date, end_date, progress)

    def _compact(
        self, schemas: Sequence[EventSchema], start_date: str | None, end_date: str | None, progress: Progress | None
    ) -> list[Compacted]:
        with compactor.lock(self._data_root):
            wanted = compactor.partitions(self._data_root, schemas, start_date, end_date)
            return compactor.compact(
                self._data_root, wanted, threads=self._threads, progress=progress, tolerance_ns=self._tolerance_ns
            )
