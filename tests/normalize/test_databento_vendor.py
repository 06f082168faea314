"""Real files through our normalizer and through the vendor's library, value by value."""

import datetime as dt
from pathlib import Path
from typing import Any

import databento
import databento_dbn as dbn
import pyarrow as pa
import pytest
from databento.common.symbology import InstrumentMap

from spymaster.errors import UnsupportedError
from spymaster.events import SCHEMAS
from tests.normalize.dbn_bytes import RECORDED, UNDEF_I64, UNDEF_U64, Run, contents_of, reader


def price(fixed: int) -> float | None:
    return None if fixed == UNDEF_I64 else fixed / 1e9


def letter(field: Any) -> str | None:
    return str(getattr(field, "value", field)) or None


def root_of(contract: str) -> str:
    """Of the contracts that the real files hold."""
    return {"E": "ES", "N": "NQ", "A": "AAPL", "M": "MSFT"}[contract[0]]


def expect_keys(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    return {
        "ts_event_ns": r.ts_event,
        "ts_recv_ns": getattr(r, "ts_recv", r.ts_event),
        "ts_local_ns": None,
        "source": {"GLBX.MDP3": "databento.glbx", "OPRA.PILLAR": "databento.opra", "XNAS.ITCH": "databento.xnas"}[
            dataset
        ],
        "contract": contract,
        "instrument_id": r.instrument_id,
        "publisher_id": int(r.publisher_id),
    }


def expect_market(r: Any) -> dict[str, Any]:
    return {
        "price": price(r.price),
        "size": r.size,
        "aggressor": {"B": 1, "A": -1}.get(letter(r.side) or "", 0),
        "flags": int(r.flags),
        "ts_in_delta_ns": r.ts_in_delta,
        "seq": r.sequence,
    }


def expect_trade(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    common = expect_keys(dataset, r, contract) | expect_market(r) | {"exchange": None, "conditions": None}
    if dataset == "GLBX.MDP3":
        return common | {"symbol": root_of(contract)}
    assert contract == "AAPL  250221C00250000"
    return common | {
        "underlying": "AAPL", "option_symbol": contract, "exp_date": dt.date(2025, 2, 21), "strike": 250.0,
        "right": "C", "opt_bid": None, "opt_ask": None,
    }  # fmt: skip


def expect_mbp10(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    row = expect_keys(dataset, r, contract) | expect_market(r) | {
        "symbol": root_of(contract), "action": letter(r.action), "side": letter(r.side), "depth": r.depth,
        "is_snapshot": bool(int(r.flags) & 32),
    }  # fmt: skip
    del row["aggressor"]
    for number, level in enumerate(r.levels, 1):
        for side in ("bid", "ask"):
            row[f"{side}_px_{number}"] = price(getattr(level, f"{side}_px"))
            row[f"{side}_sz_{number}"] = getattr(level, f"{side}_sz")
            row[f"{side}_ct_{number}"] = getattr(level, f"{side}_ct")
    return row


def expect_definition(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    return expect_keys(dataset, r, r.raw_symbol) | {
        "symbol": r.asset or root_of(r.raw_symbol),
        "record": "definition",
        "action": letter(r.security_update_action),
        "instrument_class": letter(r.instrument_class),
        "asset": r.asset or None,
        "security_type": r.security_type or None,
        "cfi": r.cfi or None,
        "exchange": r.exchange or None,
        "underlying": r.underlying or None,
        "underlying_id": r.underlying_id,
        "strike": price(r.strike_price),
        "expiration_ns": None if r.expiration == UNDEF_U64 else r.expiration,
        "activation_ns": None if r.activation == UNDEF_U64 else r.activation,
        "min_price_increment": price(r.min_price_increment),
        "unit_of_measure_qty": price(r.unit_of_measure_qty),
        "contract_multiplier": None if r.contract_multiplier == 2**31 - 1 else r.contract_multiplier,
        "currency": r.currency or None,
        "user_defined": letter(r.user_defined_instrument),
        "stype_in_symbol": None,
        "start_ns": None,
        "end_ns": None,
    }


def expect_mapping(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    empty = dict.fromkeys(SCHEMAS["reference.instruments"].delivered.names)
    return empty | expect_keys(dataset, r, r.stype_out_symbol) | {
        "symbol": root_of(r.stype_out_symbol),
        "record": "mapping",
        "stype_in_symbol": r.stype_in_symbol,
        "start_ns": None if r.start_ts == UNDEF_U64 else r.start_ts,
        "end_ns": None if r.end_ts == UNDEF_U64 else r.end_ts,
    }  # fmt: skip


EXPECT: dict[type, tuple[str | None, Any]] = {
    dbn.TradeMsg: (None, expect_trade),
    dbn.MBP10Msg: ("futures.mbp10", expect_mbp10),
    dbn.InstrumentDefMsg: ("reference.instruments", expect_definition),
    dbn.SymbolMappingMsg: ("reference.instruments", expect_mapping),
}
TRADES = {"GLBX.MDP3": "futures.trades", "OPRA.PILLAR": "options.trades"}


def expected_of(path: Path) -> tuple[dict[str, pa.Table], int]:
    """What the vendor's library reads in a file: rows per schema of ours, and how many records we ignore."""
    store = databento.DBNStore.from_bytes(path.read_bytes())
    records, symbols = list(store), InstrumentMap()
    symbols.insert_metadata(store.metadata)
    for r in records:
        if isinstance(r, dbn.SymbolMappingMsg):
            symbols.insert_symbol_mapping_msg(r)
    tables: dict[str, list[dict[str, Any]]] = {}
    for r in (r for r in records if type(r) in EXPECT):
        day = dt.datetime.fromtimestamp(getattr(r, "ts_recv", r.ts_event) // 10**9, dt.UTC).date()
        name, expect = EXPECT[type(r)]
        row = expect(store.dataset, r, symbols.resolve(r.instrument_id, day))
        tables.setdefault(name or TRADES[store.dataset], []).append(row)
    return {
        name: pa.Table.from_pylist(rows, schema=SCHEMAS[name].delivered).combine_chunks()
        for name, rows in tables.items()
    }, sum(type(r) not in EXPECT for r in records)


def test_every_value_of_every_real_file_is_the_vendor_librarys(real_dbn_file: Path) -> None:
    header, data = contents_of(real_dbn_file)
    schema = dbn.Metadata.decode(header).schema
    if str(schema) not in RECORDED:
        with pytest.raises(UnsupportedError, match=str(schema)):
            reader(header)
        return
    symbols = ("ESZ4",) if schema is None else ()

    run = Run(header, data, symbols_in_stream=symbols)

    expected, ignored = expected_of(real_dbn_file)
    assert run.tables.keys() == expected.keys()
    for name, table in expected.items():
        assert set(table.schema.names) == set(run.tables[name].schema.names)
        for column in table.schema.names:
            assert run.tables[name][column].equals(table[column]), f"{name}.{column}"
    assert run.normalizer.ignored.total() == ignored
    assert (run.unreadable, run.normalizer.unmapped) == ([], 0)
    run.normalizer.finish()


def test_rows_do_not_depend_on_how_the_bytes_were_cut(recorded_dbn_file: Path) -> None:
    header, data = contents_of(recorded_dbn_file)
    whole = Run(header, data)

    for size in (1, 7, 48, 1000, 65_537):
        cut = Run(header, data, cuts=[*[size] * min(len(data) // size, 1000), 1])

        assert cut.tables == whole.tables
        assert cut.normalizer.ignored == whole.normalizer.ignored
