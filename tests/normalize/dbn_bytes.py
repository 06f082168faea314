"""Genuine DBN bytes for tests, and a normalizer that is fed with them."""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
import zstandard

from spymaster.events.encoding import Dbn
from spymaster.normalize.databento.normalizer import DatabentoNormalizer
from spymaster.normalize.normalizer import Unreadable

UNDEF_I64, UNDEF_U64, UNDEF_U32 = 2**63 - 1, 2**64 - 1, 2**32 - 1
TRADE, MBP1, MBP10, STATUS, DEFINITION, MAPPING, STATISTICS = 0, 1, 10, 18, 19, 22, 24
CMBP1, CBBO_1S, CBBO_1M, TCBBO, BBO_1S, BBO_1M = 177, 192, 193, 194, 195, 196
DAY_NS = 86_400 * 10**9
T0 = 20_438 * DAY_NS  # 2025-12-16, UTC
DAY = dt.date(2025, 12, 16)
LAYOUTS: dict[int, Any] = {
    TRADE: dbn.TradeMsg,
    MBP10: dbn.MBP10Msg,
    DEFINITION: dbn.InstrumentDefMsg,
    MAPPING: dbn.SymbolMappingMsg,
    STATISTICS: dbn.StatMsg,
    STATUS: dbn.StatusMsg,
    MBP1: dbn.MBP1Msg,
    CMBP1: dbn.CMBP1Msg,
    TCBBO: dbn.CMBP1Msg,
    CBBO_1S: dbn.CBBOMsg,
    CBBO_1M: dbn.CBBOMsg,
    BBO_1S: dbn.BBOMsg,
    BBO_1M: dbn.BBOMsg,
}


def header_of(
    dataset: str = "GLBX.MDP3",
    schema: str | None = "trades",
    stype_in: str | None = "raw_symbol",
    symbols: Sequence[str] = (),
    mappings: dict[str, list[tuple[dt.date, dt.date, int]]] | None = None,
    ts_out: bool = False,
    version: int = 3,
) -> bytes:
    """A genuine header. `mappings` is {raw symbol: [(first date, end date, id)]}."""
    return bytes(
        dbn.Metadata(
            dataset=dataset,
            start=T0,
            stype_in=None if stype_in is None else dbn.SType.from_str(stype_in),
            stype_out=dbn.SType.from_str("instrument_id"),
            schema=None if schema is None else dbn.Schema.from_str(schema),
            symbols=list(symbols),
            partial=[],
            not_found=[],
            ts_out=ts_out,
            version=version,
            mappings=[
                SimpleNamespace(
                    raw_symbol=symbol,
                    intervals=[SimpleNamespace(start_date=a, end_date=b, symbol=str(number)) for a, b, number in spans],
                )
                for symbol, spans in (mappings or {}).items()
            ],
        ).encode()
    )


def es_header(schema: str | None = "trades", **more: Any) -> bytes:
    return header_of(schema=schema, mappings={"ESZ5": [(DAY, DAY + dt.timedelta(7), 1)]}, **more)


def record(kind: int, layout: Any = None, more: bytes = b"", **fields: Any) -> bytes:
    """The bytes of one record, zeros but for `fields`; a good time, id and length if none is given."""
    row: Any = np.zeros(1, (layout or LAYOUTS[kind])._dtypes)
    row["length"], row["rtype"] = (row.itemsize + len(more)) // 4, kind
    row["publisher_id"], row["instrument_id"], row["ts_event"] = 1, 1, T0 + 5
    if "ts_recv" in row.dtype.names:
        row["ts_recv"] = fields.get("ts_event", T0 + 5)
    if kind == MAPPING:
        row["start_ts"] = row["end_ts"] = UNDEF_U64
    for name, value in fields.items():
        row[name] = value
    return bytes(row.tobytes()) + more


def trade(**fields: Any) -> bytes:
    return record(TRADE, **{"price": 6900_250000000, "size": 2, "action": b"T", "side": b"B", **fields})


def quote(kind: int = MBP1, bid: int = 1_250_000_000, ask: int = 1_500_000_000, **fields: Any) -> bytes:
    """A quote, at its best 10 contracts a side."""
    return record(kind, **{"bid_px_00": bid, "ask_px_00": ask, "bid_sz_00": 10, "ask_sz_00": 10, **fields})


def mapping(number: int, symbol: str, asked: str = "", **fields: Any) -> bytes:
    return record(
        MAPPING, instrument_id=number, stype_out_symbol=symbol.encode(), stype_in_symbol=asked.encode(), **fields
    )


def definition(symbol: str, kind: bytes = b"F", asset: bytes = b"ES", **fields: Any) -> bytes:
    undefined = {"expiration": UNDEF_U64, "activation": UNDEF_U64, "strike_price": UNDEF_I64}
    fields = undefined | {"raw_symbol": symbol.encode(), "instrument_class": kind, "asset": asset} | fields
    return record(DEFINITION, **fields)


def reader(
    header: bytes, *symbols_in_stream: str, simulated: bool = False, defined: pa.Table | None = None
) -> DatabentoNormalizer:
    encoding = Dbn(header, symbols_in_stream)
    return DatabentoNormalizer(encoding, origin="dbn:x.dbn", simulated=simulated, defined=defined)


class Run:
    """A normalizer that was fed, and all that came out of it, as one table per schema."""

    def __init__(
        self,
        header: bytes,
        data: bytes,
        cuts: list[int] | None = None,
        ts_local_ns: int | None = None,
        symbols_in_stream: tuple[str, ...] = (),
        simulated: bool = False,
        defined: pa.Table | None = None,
    ) -> None:
        self.normalizer = reader(header, *symbols_in_stream, simulated=simulated, defined=defined)
        self.unreadable: list[Unreadable] = []
        self.sizes: list[int] = []
        self.warnings: list[str] = []
        batches: dict[str, list[pa.RecordBatch]] = {}
        for piece in pieces_of(data, cuts or [max(len(data), 1)]):
            normalized = self.normalizer.normalize([(piece, ts_local_ns)])
            self.unreadable += normalized.unreadable
            self.warnings += normalized.warnings
            for schema, batch in normalized.batches:
                batch.validate(full=True)
                assert batch.schema.equals(schema.delivered, check_metadata=True)
                self.sizes.append(batch.num_rows)
                batches.setdefault(schema.name, []).append(batch)
        self.tables = {name: pa.Table.from_batches(some).combine_chunks() for name, some in batches.items()}

    def rows(self, schema: str) -> list[dict[str, Any]]:
        return self.tables[schema].to_pylist() if schema in self.tables else []

    def column(self, schema: str, name: str) -> list[Any]:
        return [row[name] for row in self.rows(schema)]


def pieces_of(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Cut `data` into pieces of these sizes, one after another; the last one holds the rest."""
    at = 0
    for size in cuts[:-1]:
        yield data[at : at + size]
        at += size
    yield data[at:]


def contents_of(path: Path) -> tuple[bytes, bytes]:
    """The header and the records of a real file, decompressed."""
    data, rest = b"", path.read_bytes()
    if path.suffix == ".zst":
        while rest:
            frame = zstandard.ZstdDecompressor().decompressobj()
            data += frame.decompress(rest)
            rest = frame.unused_data
    else:
        data = rest
    size = 8 + int.from_bytes(data[4:8], "little")
    return data[:size], data[size:]
