"""Real files through our normalizer and through the vendor's library, value by value."""

import datetime as dt
from pathlib import Path
from typing import Any

import databento
import databento_dbn as dbn
import pyarrow as pa
import pytest
from databento.common.symbology import InstrumentMap

from spymaster.errors import SourceError, UnsupportedError
from spymaster.events import SCHEMAS
from spymaster.normalize.databento.instruments import DEFINITION_COLUMNS
from tests.conftest import NAMELESS_DBN_FILES, RECORDED_DBN_SCHEMAS
from tests.normalize.dbn_bytes import UNDEF_I64, UNDEF_U64, Run, contents_of, reader


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
    return common | expect_option(contract) | {"opt_bid": None, "opt_ask": None}


def expect_terms(contract: str) -> dict[str, Any]:
    """What the symbols of the real files' options say."""
    terms = {
        "AAPL  250221C00250000": (dt.date(2025, 2, 21), 250.0, "C"),
        "ESM4 P5230": (None, 5230.0, "P"),
        "ESM4 P5250": (None, 5250.0, "P"),
    }
    return dict(zip(("exp_date", "strike", "right"), terms.get(contract, (None, None, None)), strict=True))


def expect_option(contract: str) -> dict[str, Any]:
    return expect_terms(contract) | {"underlying": root_of(contract), "option_symbol": contract}


SAMPLES = {"bbo-1s": 1, "bbo-1m": 60, "cbbo-1s": 1, "cbbo-1m": 60}


def expect_quote(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    row = expect_keys(dataset, r, contract) | expect_option(contract)
    sampled = SAMPLES.get(str(r.rtype))
    (level,) = r.levels
    row |= {
        "sample_s": sampled or (-1 if str(r.rtype) == "tcbbo" else 0),
        "price": price(r.price), "size": r.size, "side": letter(r.side), "flags": int(r.flags),
        "action": None if sampled else letter(r.action),
        "ts_in_delta_ns": None if sampled else r.ts_in_delta,
        "seq": getattr(r, "sequence", None),
    }  # fmt: skip
    if sampled:
        row |= {"ts_event_ns": r.ts_recv, "trade_ts_ns": None if r.ts_event == UNDEF_U64 else r.ts_event}
    for side in ("bid", "ask"):
        row[f"{side}_px"] = price(getattr(level, f"{side}_px"))
        row[f"{side}_sz"] = getattr(level, f"{side}_sz")
        row[f"{side}_ct"] = getattr(level, f"{side}_ct", None)
        row[f"{side}_exch"] = getattr(level, f"{side}_pb", None)
    return row


def expect_statistic(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    return expect_keys(dataset, r, contract) | expect_terms(contract) | {
        "symbol": root_of(contract),
        "kind": str(r.stat_type.name).lower(),
        "kind_code": int(r.stat_type),
        "price": price(r.price),
        "quantity": None if r.quantity == UNDEF_I64 else r.quantity,
        "ref_ts_ns": None if r.ts_ref == UNDEF_U64 else r.ts_ref,
        "update_code": int(r.update_action),
        "stat_flags": r.stat_flags,
        "channel_id": r.channel_id,
        "ts_in_delta_ns": r.ts_in_delta,
        "seq": r.sequence,
    }  # fmt: skip


def expect_status(dataset: str, r: Any, contract: str) -> dict[str, Any]:
    row = expect_keys(dataset, r, contract) | expect_terms(contract) | {"symbol": root_of(contract)}
    for name in ("action", "reason", "trading_event"):
        row |= {name: getattr(r, name).name.lower(), f"{name}_code": int(getattr(r, name))}
    for name in ("is_trading", "is_quoting", "is_short_sell_restricted"):
        row[name] = getattr(r, name)
    return row


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
    dbn.StatMsg: ("reference.statistics", expect_statistic),
    dbn.StatusMsg: ("reference.status", expect_status),
}
QUOTES = (dbn.MBP1Msg, dbn.BBOMsg, dbn.CMBP1Msg, dbn.CBBOMsg)
TRADES = {"GLBX.MDP3": "futures.trades", "OPRA.PILLAR": "options.trades"}
# What names the files that nothing else does.
CONTRACT, NAMELESS_ID = "ESM3", 146945


def expected_of(path: Path) -> tuple[dict[str, pa.Table], int]:
    """What the vendor's library reads in a file: rows per schema of ours, and how many records we ignore."""
    store = databento.DBNStore.from_bytes(path.read_bytes())
    records, symbols = list(store), InstrumentMap()
    symbols.insert_metadata(store.metadata)
    for r in records:
        if isinstance(r, dbn.SymbolMappingMsg):
            symbols.insert_symbol_mapping_msg(r)
    tables: dict[str, list[dict[str, Any]]] = {}
    ignored = 0
    for r in records:
        day = dt.datetime.fromtimestamp(getattr(r, "ts_recv", r.ts_event) // 10**9, dt.UTC).date()
        contract = CONTRACT if r.instrument_id == NAMELESS_ID else symbols.resolve(r.instrument_id, day)
        if isinstance(r, QUOTES) and " " in contract:  # of an option
            name, expect = "options.quotes", expect_quote
        elif type(r) in EXPECT:
            name, expect = EXPECT[type(r)]
        else:
            ignored += 1
            continue
        tables.setdefault(name or TRADES[store.dataset], []).append(expect(store.dataset, r, contract))
    return {
        name: pa.Table.from_pylist(rows, schema=SCHEMAS[name].delivered).combine_chunks()
        for name, rows in tables.items()
    }, ignored


def definitions(**fields: Any) -> pa.Table:
    """A row of `reference.instruments`, as far as it names an instrument."""
    row = dict.fromkeys(DEFINITION_COLUMNS) | {"record": "definition"} | fields
    kinds = SCHEMAS["reference.instruments"].log
    return pa.table({name: pa.array([row[name]], kinds.field(name).type) for name in DEFINITION_COLUMNS})


def test_every_value_of_every_real_file_is_the_vendor_librarys(real_dbn_file: Path) -> None:
    header, data = contents_of(real_dbn_file)
    schema = dbn.Metadata.decode(header).schema
    if str(schema) not in RECORDED_DBN_SCHEMAS:
        with pytest.raises(UnsupportedError, match=str(schema)):
            reader(header)
        return
    symbols = ("ESZ4",) if schema is None else ()
    defined = None
    if real_dbn_file.name in NAMELESS_DBN_FILES:
        with pytest.raises(SourceError, match="bare ids"):
            reader(header)
        received = 1_682_269_536_040_124_325
        defined = definitions(
            instrument_id=NAMELESS_ID, ts_recv_ns=received, contract=CONTRACT, asset="ES", instrument_class="F"
        )

    run = Run(header, data, symbols_in_stream=symbols, defined=defined)

    expected, ignored = expected_of(real_dbn_file)
    assert run.tables.keys() == expected.keys()
    for name, table in expected.items():
        assert set(table.schema.names) == set(run.tables[name].schema.names)
        for column in table.schema.names:
            assert run.tables[name][column].equals(table[column]), f"{name}.{column}"
    assert run.normalizer.ignored.total() == ignored
    assert (run.unreadable, run.normalizer.unmapped) == ([], 0)
    assert not run.normalizer.odd
    run.normalizer.finish()


@pytest.mark.parametrize(
    ("path", "count", "kind"),
    [
        ("databento-python/GLBX.MDP3/test_data.bbo-1s.dbn.zst", 4, "bbo-1s"),
        ("databento-python/GLBX.MDP3/test_data.bbo-1m.dbn.zst", 4, "bbo-1m"),
        ("databento-python/GLBX.MDP3/test_data.mbp-1.dbn.zst", 4, "mbp-1"),
        ("nautilus_trader/ESU4_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst", 2_288, "mbp-1"),
        ("dbn/test_data.tbbo.v1.dbn.zst", 2, "tbbo"),
        ("dbn/test_data.cbbo-1s.v2.dbn.zst", 2, "cbbo-1s"),
        ("dbn/test_data.cmbp-1.v3.dbn.zst", 2, "cmbp-1"),
    ],
)
def test_quotes_of_futures_are_counted_and_named_in_one_line(real_data: Path, path: str, count: int, kind: str) -> None:
    header, data = contents_of(real_data / path)
    run = Run(header, data, cuts=[len(data) // 2, len(data)])

    assert run.tables == {}
    assert run.normalizer.ignored == {f"{kind} of futures": count}
    (line,) = run.warnings
    assert line.startswith(
        f"dbn:x.dbn: {kind} of futures are not recorded, only counted, as futures.mbp10 has the book"
    )
    assert line.endswith("Next: fetch mbp-10 of them")
    run.normalizer.finish()


def test_rows_do_not_depend_on_how_the_bytes_were_cut(recorded_dbn_file: Path) -> None:
    header, data = contents_of(recorded_dbn_file)
    whole = Run(header, data)

    for size in (1, 7, 48, 1000, 65_537):
        cut = Run(header, data, cuts=[*[size] * min(len(data) // size, 1000), 1])

        assert cut.tables == whole.tables
        assert cut.normalizer.ignored == whole.normalizer.ignored
