"""Makes the rows of Silver by DuckDB's SQL: the other engine, which makes the same bytes.

DuckDB reads the parts itself, numbers and orders by windows, and finds greeks by an as-of join; hashlib names each
event, from the layout as it is documented. With the numpy engine it shares what a row's keys are made of, and not the
code that decides by them, so that each is the other's oracle.
"""
# ruff: noqa: S608  # names of ours; all that comes from outside is a parameter

import hashlib
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from numpy.typing import NDArray

from spymaster.compaction import keys_by_sql
from spymaster.compaction.deliveries import Deliveries
from spymaster.compaction.made import Greeks, Made
from spymaster.compaction.spans import Span
from spymaster.events import EventSchema
from spymaster.events.exactly_once import Edges
from spymaster.lake import silver
from spymaster.lake.layout import escape_glob
from spymaster.lake.silver import Counts

_BLOCK_BYTES: Final = 64
_UNKNOWN: Final = 2**63 - 1  # minus when a capture began of which nothing says so: it is the last
_ORDER: Final = "ts_event_ns, ts_recv_ns, capture_id, capture_seq"


def make(
    connection: duckdb.DuckDBPyConnection,
    schema: EventSchema,
    source: ds.Dataset,
    span: Span,
    deliveries: Deliveries,
    greeks: Greeks | None,
) -> Made:
    """Return every event of a span once, as `by_columns.make` does.

    Args:
        connection: of whoever asks; tables of its own are made there, and replaced by the next call.
        schema: of the rows.
        source: all parts of the partition.
        span: which times.
        deliveries: where they are cut, and when they began.
        greeks: what option trades may know; None for other schemas.
    """
    _read(connection, schema, source, span)
    _decide(connection, schema, deliveries)
    removed = connection.sql(
        f"select {_quoted(schema.bronze.names)} from delivered join decided using (place) where place <> kept_for"
    ).to_arrow_table()
    out = _silver_rows(connection, schema, greeks)
    enriched = 0 if greeks is None else out.num_rows - out["greeks_snapshot_id"].null_count
    repeats = int(np.count_nonzero(out["occurrence"].to_numpy() > 1))
    rows_in, unproven, repeated_numbers = connection.execute(
        "select count(*), count(*) filter (place <> kept_for and not proven), "
        "count(*) filter (place = kept_for and is_unique and nth > 1) from decided"
    ).fetchall()[0]
    differing = connection.execute(
        f"select count(*) from decided join delivered one using (place) join delivered other "
        f"on other.place = kept_for where one.place <> kept_for and {keys_by_sql.differs(schema, 'one', 'other')}"
    ).fetchall()[0][0]
    counts = Counts(
        rows_in, out.num_rows, removed.num_rows, repeats, unproven, enriched, differing, repeated_numbers
    )  # fmt: skip
    return Made(out, removed.cast(schema.bronze), counts)


def _read(connection: duckdb.DuckDBPyConnection, schema: EventSchema, source: ds.Dataset, span: Span) -> None:
    """Make a table of the rows of a span, each with a number."""
    connection.register("none_delivered", schema.bronze.empty_table())
    connection.execute(
        f"create or replace temp table delivered as select row_number() over () as place, "
        f"{_quoted(schema.bronze.names)} from (from none_delivered union all by name from "
        f"read_parquet(?, hive_partitioning = false, union_by_name = true)) where ts_event_ns between ? and ?",
        [[escape_glob(Path(file)) for file in source.files], *span],  # type: ignore[attr-defined]
    )


def _decide(connection: duckdb.DuckDBPyConnection, schema: EventSchema, deliveries: Deliveries) -> None:
    """Make a table of which row each row is removed for, itself where it is kept, and of what else is known of it."""
    keys = keys_by_sql.keys_of(schema)
    computed = "".join(f", {value} as {name}" for name, value in (keys.key | keys.richer).items())
    more = ", ".join(keys.richer) or "null"
    connection.register("captures", _captures(deliveries))
    connection.execute(
        f"""
        create or replace temp table decided as with keyed as (
            select place, capture_id, capture_seq, ts_recv_ns, ts_local_ns, ts_local_ns is null as is_file,
                "{schema.identity[0]}" is null as is_nameless, {keys.has_richer} as is_rich, {keys.unique} as is_unique
                {computed}
            from delivered
        ), grouped as (
            select *, min(place) over (partition by {", ".join(keys.key)}) as same from keyed
        ), known as (
            select grouped.* exclude ({", ".join(name for name in keys.key if name != "key_time")}),
                coalesce(-began_ns, {_UNKNOWN}) as minus_began,
                coalesce(key_time > begin_ns, true) and coalesce(key_time < end_ns, true) as goes_on
            from grouped left join captures using (capture_id)
        ), counted as (
            -- A capture's rows with the richer key come first in its count of the poorer one.
            select *, case when is_rich
                then row_number() over (partition by same, is_rich, {more}, capture_id order by capture_seq)
                else row_number() over (partition by same, is_rich, capture_id order by capture_seq)
                    + count(*) filter (is_rich) over (partition by same, capture_id)
                end as nth
            from known
        ), numbered as (
            -- The n-th of the poorer rows is the n-th of the richer events where there are as many.
            select *, case when is_rich
                then dense_rank() over (partition by same, is_rich order by {more}, nth) else nth end as event
            from counted
        )
        select place, is_unique, nth, first_value(place) over (
                partition by same, event order by not is_rich, is_file, is_nameless,
                case when is_file then minus_began else ts_local_ns end, case when is_file then 0 else ts_recv_ns end,
                capture_id, capture_seq
            ) as kept_for, first_value(case when is_file then place end) over (
                partition by same, event order by not is_file, minus_began, capture_id, capture_seq
            ) as late, is_unique or bool_or(goes_on) over (partition by same) as proven
        from numbered
        """
    )
    connection.unregister("captures")


def _captures(deliveries: Deliveries) -> pa.Table:
    """Return where captures are cut and when they began, as far as anything is known of them."""
    known = sorted({*deliveries.edges, *deliveries.began})
    edges = [deliveries.edges.get(capture_id, Edges(None, None)) for capture_id in known]
    columns: dict[str, list[int | None]] = {
        "capture_id": [*known],
        "began_ns": [deliveries.began.get(capture_id) for capture_id in known],
        "begin_ns": [edge.begin_ns for edge in edges],
        "end_ns": [edge.end_ns for edge in edges],
    }
    return pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})


def _silver_rows(connection: duckdb.DuckDBPyConnection, schema: EventSchema, greeks: Greeks | None) -> pa.Table:
    """Return the rows that are kept, in Silver's order, with what names each event and what came of it."""
    pieces = keys_by_sql.identity_of(schema)
    named = ", ".join(f"{piece} as {name}" for name, piece in pieces.items())
    late = "".join(f", last_one.{name} as {column.name}" for column, name in silver.late_columns(schema))
    kept = (
        f"select own.*{late} from delivered own join decided using (place) "
        f"left join delivered last_one on last_one.place = late where own.place = kept_for"
    )
    query = (
        f"select *, row_number() over (partition by {', '.join(pieces)} order by {_ORDER})::int as occurrence "
        f"from (select *, {named} from ({kept}))"
    )
    if greeks is not None:
        connection.register("greeks", greeks.rows)
        connection.execute("set asof_loop_join_threshold = 0")
        query = _with_greeks(query, greeks.tolerance_ns)
    rows: pa.Table = connection.sql(f"from ({query}) order by {_ORDER}").to_arrow_table()
    ids = _event_ids(rows.select(list(pieces)))
    columns = silver.columns_of(schema)
    return rows.append_column(silver.EVENT_ID, ids).select(columns.names).cast(columns).combine_chunks()


def _with_greeks(trades: str, tolerance_ns: int) -> str:
    """Return the query of trades with what was known of their options."""
    usual = " ".join(f"when '{root}' then {units}" for root, units in silver.MULTIPLIERS.items())
    known = {
        "greeks_snapshot_id": "snapshot_id", "greeks_age_ns": "age", "delta": "delta", "gamma": "gamma",
        "delta_notional": "delta * units", "gamma_notional": "gamma * units",
    }  # fmt: skip
    tolerated = f"case when age <= {tolerance_ns} then"
    columns = ", ".join(f"{tolerated} {value} end as {name}" for name, value in known.items())
    latest = (
        "from greeks qualify row_number() over (partition by option_symbol, ts_recv_ns "
        "order by ts_event_ns desc, capture_id desc, capture_seq desc) = 1"
    )
    return (
        f"select * exclude (snapshot_id, delta, gamma, age, units), {columns} from ("
        f"select t.*, g.snapshot_id, g.delta, g.gamma, t.ts_event_ns - g.ts_recv_ns as age, "
        f"t.size::double * coalesce(g.shares_per_contract, case t.underlying {usual} end)::double as units "
        f"from ({trades}) t asof left join ({latest}) g "
        f"on t.option_symbol = g.option_symbol and t.ts_event_ns >= g.ts_recv_ns)"
    )


def _event_ids(keys: pa.Table) -> pa.Array:
    """Return the MD5 of each row's pieces, a text as its block and a number as its eight bytes."""
    rows = keys.num_rows
    layout = np.concatenate([_bytes_of(column) for column in keys.columns], axis=1)
    width, raw = layout.shape[1], memoryview(layout.tobytes())
    digests = b"".join(
        hashlib.md5(raw[at : at + width], usedforsecurity=False).digest() for at in range(0, rows * width, width)
    )
    return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(digests)])


def _bytes_of(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    if not pa.types.is_string(column.type):
        numbers: NDArray[np.int64] = column.to_numpy().astype("<i8")
        return numbers.view(np.uint8).reshape(-1, 8)
    texts = column.combine_chunks().dictionary_encode(null_encoding="encode")
    blocks = b"".join(map(_block, texts.dictionary.to_pylist()))  # the distinct ones only
    repeated: NDArray[np.uint8] = np.frombuffer(blocks, np.uint8).reshape(-1, _BLOCK_BYTES)[texts.indices.to_numpy()]
    return repeated


def _block(text: str | None) -> bytes:
    if text is None:
        return b"\xff" * _BLOCK_BYTES
    raw = text.encode()
    plain = len(raw) <= _BLOCK_BYTES and not raw.endswith(b"\0")
    return raw.ljust(_BLOCK_BYTES, b"\0") if plain else hashlib.sha256(raw).hexdigest().encode()


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
