"""Statistics and status in DBN. What real files hold is in `test_databento_vendor`."""

from typing import Any

import databento_dbn as dbn
import pytest

from spymaster.normalize.databento.codes import CODES
from tests.normalize.dbn_bytes import (
    DAY,
    STATISTICS,
    STATUS,
    T0,
    UNDEF_I64,
    UNDEF_U64,
    Run,
    es_header,
    header_of,
    record,
)

NEXT_DAY = DAY.replace(day=17)


def statistic(**fields: Any) -> bytes:
    return record(STATISTICS, **{"stat_type": 9, "price": UNDEF_I64, "ts_ref": UNDEF_U64, "update_action": 1, **fields})


@pytest.mark.parametrize(
    ("column", "enum"),
    [
        ("kind", dbn.StatType),
        ("action", dbn.StatusAction),
        ("reason", dbn.StatusReason),
        ("trading_event", dbn.TradingEvent),
    ],
)
def test_our_names_of_codes_are_the_installed_librarys(column: str, enum: Any) -> None:
    assert CODES[column] == {int(code): code.name.lower() for code in enum.variants()}


def test_a_statistic_is_a_price_or_a_quantity_of_a_time() -> None:
    data = statistic(quantity=2**63 - 2, ts_ref=T0, stat_flags=255, channel_id=65535, update_action=2) + statistic(
        stat_type=15, price=-512_000_000, quantity=UNDEF_I64, ts_in_delta=-5, sequence=2**32 - 1
    )
    run = Run(es_header("statistics"), data)

    interest, delta = run.rows("reference.statistics")
    assert (interest["kind"], interest["price"], interest["quantity"]) == ("open_interest", None, 2**63 - 2)
    assert (interest["ref_ts_ns"], interest["update_code"], interest["stat_flags"]) == (T0, 2, 255)
    assert interest["channel_id"] == 65535
    assert (delta["kind"], delta["price"], delta["quantity"]) == ("delta", -0.512, None)
    assert (delta["ref_ts_ns"], delta["ts_in_delta_ns"], delta["seq"]) == (None, -5, 2**32 - 1)
    assert (run.unreadable, run.warnings, run.normalizer.odd) == ([], [], {})


@pytest.mark.parametrize("version", [1, 2])
def test_a_quantity_of_32_bits_is_undefined_at_its_own_largest(version: int) -> None:
    interest = dbn.StatType.OPEN_INTEREST
    data = b"".join(
        bytes(dbn.StatMsgV1(1, 1, T0, T0, UNDEF_U64, UNDEF_I64, quantity, interest))
        for quantity in (2**31 - 1, 2**31 - 2, -1)
    )
    run = Run(es_header("statistics", version=version), data)

    assert run.column("reference.statistics", "quantity") == [None, 2**31 - 2, -1]


def test_a_status_says_what_is_allowed_and_null_where_it_does_not_say() -> None:
    said = [(b"Y", b"N", b"~"), (b"N", b"Y", b"\0"), (b"~", b"?", b"Y")]
    names = ("is_trading", "is_quoting", "is_short_sell_restricted")
    data = b"".join(
        record(STATUS, action=8, reason=50, trading_event=1, **dict(zip(names, flags, strict=True))) for flags in said
    )
    run = Run(es_header("status"), data)

    rows = run.rows("reference.status")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (True, False, None), (False, True, None), (None, None, True),
    ]  # fmt: skip
    assert {(row["action"], row["reason"], row["trading_event"]) for row in rows} == {
        ("halt", "luld_pause", "no_cancel")
    }
    assert {(row["action_code"], row["reason_code"], row["trading_event_code"]) for row in rows} == {(8, 50, 1)}


def test_a_number_that_we_know_no_name_of_is_recorded_and_each_kind_told_once() -> None:
    data = statistic(stat_type=999) + record(STATUS, action=77, reason=7) + record(STATUS, action=78)
    run = Run(es_header(None), data * 3, cuts=[40] * 12)

    assert run.column("reference.statistics", "kind") == [None] * 3
    assert run.column("reference.statistics", "kind_code") == [999] * 3
    assert run.column("reference.status", "action") == [None] * 6
    assert run.column("reference.status", "action_code") == [77, 78] * 3
    assert run.column("reference.status", "reason") == [None, "none"] * 3
    assert run.unreadable == []
    assert sorted(line.partition(", whose")[0] for line in run.warnings) == [
        "dbn:x.dbn: statistics records have the kind 999",
        "dbn:x.dbn: status records have the action 77",
        "dbn:x.dbn: status records have the reason 7",
    ]
    assert all(line.endswith("Next: upgrade spymaster") for line in run.warnings)


@pytest.mark.parametrize("dataset", ["GLBX.MDP3", "OPRA.PILLAR", "XNAS.ITCH"])
def test_statistics_and_status_of_every_dataset_name_their_instrument(dataset: str) -> None:
    symbol, root, strike, right = {
        "GLBX.MDP3": ("EW2F6 P7000", "ES", 7000.0, "P"),
        "OPRA.PILLAR": ("SPY   251216C00680000", "SPY", 680.0, "C"),
        "XNAS.ITCH": ("MSFT", "MSFT", None, None),
    }[dataset]
    for schema, data in (("statistics", statistic()), ("status", record(STATUS, action=7))):
        run = Run(header_of(dataset, schema, mappings={symbol: [(DAY, NEXT_DAY, 1)]}), data)

        (row,) = run.rows(f"reference.{schema}")
        assert (row["symbol"], row["contract"], row["strike"], row["right"]) == (root, symbol, strike, right)
        assert row["exp_date"] == (DAY if dataset == "OPRA.PILLAR" else None)
        assert run.normalizer.streams == {f"reference.{schema}": root, "reference.instruments": root}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (statistic(ts_ref=2**63), "ts_ref does not fit"),
        (statistic(ts_event=UNDEF_U64), "ts_event is undefined"),
        (record(STATUS, ts_event=2**63), "ts_event does not fit"),
        (record(STATISTICS, layout=dbn.StatMsgV1), "64 bytes instead of 80"),
    ],
)
def test_what_cannot_be_a_row_is_handed_back_whole(bad: bytes, reason: str) -> None:
    run = Run(es_header(None), statistic(sequence=1) + bad + statistic(sequence=2))

    (unreadable,) = run.unreadable
    assert (unreadable.data, reason in unreadable.reason) == (bad, True)
    assert run.column("reference.statistics", "seq") == [1, 2]
