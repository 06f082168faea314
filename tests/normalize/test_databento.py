import datetime as dt
from contextlib import suppress

import databento_dbn as dbn
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster.errors import SourceError, SpymasterError, TruncatedError, UnsupportedError
from spymaster.events import SCHEMAS
from tests.normalize.dbn_bytes import (
    DAY,
    DEFINITION,
    LAYOUTS,
    MAPPING,
    MBP10,
    T0,
    TRADE,
    UNDEF_I64,
    UNDEF_U32,
    UNDEF_U64,
    Run,
    definition,
    es_header,
    header_of,
    mapping,
    pieces_of,
    reader,
    record,
    trade,
)

# What a header decides.

OF_OPTIONS, REFERENCE = ("options.trades", "options.quotes"), ("reference.statistics", "reference.status")
ENDS = (b"\0", b"DBN")  # where no record can begin


@pytest.mark.parametrize(
    ("dataset", "schema", "streams"),
    [
        ("GLBX.MDP3", "trades", {"futures.trades", "options.trades"}),
        ("GLBX.MDP3", "mbp-10", {"futures.mbp10"}),
        ("GLBX.MDP3", "definition", set()),
        ("GLBX.MDP3", "statistics", {"reference.statistics"}),
        ("GLBX.MDP3", "tbbo", {"options.quotes"}),
        ("GLBX.MDP3", None, {"futures.trades", "futures.mbp10", *OF_OPTIONS, *REFERENCE}),
        ("OPRA.PILLAR", "trades", {"options.trades"}),
        ("OPRA.PILLAR", "cbbo-1m", {"options.quotes"}),
        ("OPRA.PILLAR", None, {*OF_OPTIONS, *REFERENCE}),
        ("XNAS.ITCH", "trades", {"stocks.trades"}),
        ("XNAS.ITCH", "status", {"reference.status"}),
        ("XNAS.ITCH", None, {"stocks.trades", *REFERENCE}),
    ],
)
def test_the_streams_of_a_delivery_follow_from_its_header(dataset: str, schema: str | None, streams: set[str]) -> None:
    normalizer = reader(header_of(dataset, schema, symbols=["SPY"]))

    assert normalizer.streams == dict.fromkeys({"reference.instruments"} | streams, "SPY")


@pytest.mark.parametrize(
    ("symbols", "mapped", "in_stream", "name"),
    [
        (["ES.FUT"], ["ESZ5", "ESH6", "ESZ5-ESH6"], [], "ES"),
        (["ES.FUT"], [], [], "ES"),
        ([], [], ["ESZ4"], "ES"),
        ([], [], ["ESZ4", "NQZ4"], "ALL"),
        ([], [], [], "ALL"),
        (["ESZ5", "NQZ5"], [], [], "ALL"),
        (["ES.FUT"], ["ESZ5"], ["NQZ5"], "ALL"),
        (["ALL_SYMBOLS"], [], [], "ALL"),
        (["ES.OPT", "EW2.OPT"], ["EW2F6 C7000", "UD:1V: VT 2858150"], [], "ES"),
    ],
)
def test_a_stream_is_named_by_the_one_root_of_its_symbols_or_all(
    symbols: list[str], mapped: list[str], in_stream: list[str], name: str
) -> None:
    stype_in = "parent" if any("." in symbol for symbol in symbols) else "raw_symbol"
    spans = {symbol: [(DAY, DAY + dt.timedelta(1), number)] for number, symbol in enumerate(mapped)}
    header = header_of(stype_in=stype_in, symbols=symbols, mappings=spans)

    normalizer = reader(header, *in_stream)

    assert set(normalizer.streams.values()) == {name}


@pytest.mark.parametrize(
    ("dataset", "schema", "named"),
    [
        ("DBEQ.BASIC", "trades", "DBEQ.BASIC"),
        ("GLBX.MDP3", "mbo", "mbo"),
        ("XNAS.ITCH", "mbp-10", "mbp-10"),
        ("XNAS.ITCH", "mbp-1", "mbp-1"),
        ("OPRA.PILLAR", "mbp-10", "mbp-10"),
    ],
)
def test_a_dataset_or_schema_that_is_not_recorded_is_one_line_that_names_it_and_what_is(
    dataset: str, schema: str, named: str
) -> None:
    with pytest.raises(UnsupportedError) as refused:
        reader(header_of(dataset, schema))

    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith("dbn:x.dbn ")
    assert named in line
    assert "GLBX.MDP3 with trades, mbp-10, definition, statistics, status, mbp-1, tbbo, bbo-1s, bbo-1m, " in line
    assert "XNAS.ITCH with trades, definition, statistics, status" in line


def test_a_dbn_version_that_is_not_known_is_named() -> None:
    header = es_header()

    with pytest.raises(UnsupportedError, match="version 4"):
        reader(header[:3] + b"\x04" + header[4:])


@pytest.mark.parametrize("header", [b"", b"DBN", b"garbage", b"DBN\x03\x00\x00\x00\x00", es_header()[:100]])
def test_what_is_no_header_is_an_error_in_one_line(header: bytes) -> None:
    with pytest.raises(SourceError, match="no DBN header"):
        reader(header)


@settings(max_examples=300, deadline=None)
@given(
    at=st.lists(st.tuples(st.integers(4, 10**6), st.integers(0, 255)), max_size=4),
    cut=st.sampled_from([0, 0, 0, 1, 50, 200]),
)
def test_a_damaged_header_never_raises_anything_else(at: list[tuple[int, int]], cut: int) -> None:
    header = bytearray(es_header())
    for byte, value in at:
        header[byte % len(header)] = value
    with suppress(SourceError):
        reader(bytes(header[: len(header) - cut]))


def test_a_simulated_delivery_has_the_source_sim() -> None:
    run = Run(es_header(), trade(), simulated=True)

    assert run.normalizer.source == "sim"
    assert run.column("futures.trades", "source") == ["sim"]


def test_rows_carry_the_time_at_which_their_bytes_arrived() -> None:
    run = Run(es_header(schema=None), trade() + mapping(1, "ESZ5"), ts_local_ns=T0 + 99)

    assert run.column("futures.trades", "ts_local_ns") == [T0 + 99]
    assert run.column("reference.instruments", "ts_recv_ns") == [T0 + 99]


# Values.


def test_what_the_vendor_leaves_undefined_is_null() -> None:
    run = Run(es_header(), trade(price=UNDEF_I64, size=UNDEF_U32, ts_recv=UNDEF_U64, side=b"N"))

    (row,) = run.rows("futures.trades")
    assert (row["price"], row["size"], row["aggressor"]) == (None, None, 0)
    assert row["ts_recv_ns"] == row["ts_event_ns"]


def test_negative_and_zero_prices_of_spreads_stand() -> None:
    run = Run(es_header(), trade(price=0) + trade(price=-50_000_000) + trade(price=-(2**63)))

    assert run.column("futures.trades", "price") == [0.0, -0.05, -(2**63) / 1e9]


def test_an_empty_level_has_no_price_and_its_counts_as_sent() -> None:
    book = record(MBP10, price=UNDEF_I64, action=b"R", side=b"N", flags=168, bid_px_00=UNDEF_I64, ask_px_09=UNDEF_I64,
                  bid_sz_00=3, ask_ct_09=4)  # fmt: skip
    run = Run(es_header("mbp-10"), book)

    (row,) = run.rows("futures.mbp10")
    assert (row["bid_px_1"], row["bid_sz_1"], row["ask_px_10"], row["ask_ct_10"]) == (None, 3, None, 4)
    assert (row["price"], row["action"], row["is_snapshot"], row["bid_px_2"]) == (None, "R", True, 0.0)


def test_a_row_is_of_a_snapshot_where_the_flag_says_so() -> None:
    run = Run(es_header("mbp-10"), b"".join(record(MBP10, flags=flags) for flags in (0, 32, 255 - 32, 168)))

    assert run.column("futures.mbp10", "is_snapshot") == [False, True, False, True]
    assert run.column("futures.mbp10", "flags") == [0, 32, 223, 168]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trade(size=2**31), "size does not fit"),
        (trade(ts_event=UNDEF_U64), "ts_event is undefined"),
        (trade(ts_event=2**63), "ts_event does not fit"),
        (trade(ts_recv=2**63), "ts_recv does not fit"),
        (record(MBP10, bid_sz_03=2**31), "book"),
        (record(MBP10, ask_ct_09=UNDEF_U32), "book"),
        (record(MBP10, size=2**31), "size does not fit"),
        (definition("ESZ5", expiration=2**63), "expiration does not fit"),
        (mapping(1, "ESZ5", end_ts=2**63), "end_ts does not fit"),
        (mapping(1, "ESZ5", ts_event=2**63), "ts_event does not fit"),
        (trade(length=13) + bytes(4), "52 bytes instead of 48"),
        (record(MBP10, length=12)[:48], "48 bytes instead of 368"),
        (record(DEFINITION, layout=dbn.InstrumentDefMsgV1), "360 bytes instead of 520"),
        (trade(length=3)[:12], "shorter"),
        (trade(rtype=77), "77"),
    ],
)
def test_a_record_that_cannot_be_a_row_is_handed_back_whole_and_the_others_stand(bad: bytes, reason: str) -> None:
    before, after = trade(sequence=1), trade(sequence=2)
    run = Run(es_header(schema=None), before + bad + after)

    (unreadable,) = run.unreadable
    assert unreadable.data == bad
    assert reason in unreadable.reason
    assert unreadable.byte == len(es_header(schema=None)) + len(before)
    assert run.column("futures.trades", "seq") == [1, 2]


def test_a_record_of_a_kind_that_the_header_does_not_announce_is_not_lost() -> None:
    run = Run(es_header("trades"), record(MBP10) + trade())

    assert [unreadable.data for unreadable in run.unreadable] == [record(MBP10)]
    assert len(run.rows("futures.trades")) == 1


def test_unreadable_records_come_in_the_order_of_their_bytes() -> None:
    run = Run(
        es_header(schema=None),
        b"".join([trade(rtype=77), trade(size=2**31), trade(rtype=78), record(MBP10, length=9)[:36]]),
    )

    assert [u.byte - len(es_header(schema=None)) for u in run.unreadable] == [0, 48, 96, 144]


def test_kinds_that_are_not_recorded_are_counted_by_the_vendors_name() -> None:
    others = [dbn.MBOMsg, dbn.ImbalanceMsg, dbn.SystemMsg]
    data = b"".join(record(kind, layout) for kind, layout in zip((160, 20, 23), others, strict=True))
    run = Run(header_of("OPRA.PILLAR", None), data + data + record(MBP10))

    assert run.normalizer.ignored == {"mbo": 2, "imbalance": 2, "system": 2, "mbp-10": 1}
    assert (run.tables, run.unreadable) == ({}, [])


def test_ts_out_after_each_record_is_passed_over() -> None:
    sent = bytes(range(8))
    data = record(TRADE, more=sent, sequence=1) + record(MAPPING, more=sent) + record(TRADE, more=sent, sequence=2)
    run = Run(es_header(ts_out=True), data + trade())

    assert run.column("futures.trades", "seq") == [1, 2]
    assert [unreadable.data for unreadable in run.unreadable] == [trade()]


def test_text_that_is_not_ascii_is_kept() -> None:
    run = Run(
        es_header(schema=None),
        definition("ES", asset="Ω".encode(), kind=b"\xff", currency=b"\xe9")
        + record(MBP10, action=b"\xff", side=b"\0"),
    )

    (row,) = run.rows("reference.instruments")
    assert (row["symbol"], row["instrument_class"], row["currency"], row["cfi"]) == ("Ω", "ÿ", "é", None)
    assert (run.column("futures.mbp10", "action"), run.column("futures.mbp10", "side")) == (["ÿ"], [""])


# The end of a delivery.


def test_a_record_of_length_zero_ends_the_delivery_and_is_named() -> None:
    header, sound = es_header(), trade() + trade()
    for cuts in ([10**6], [7] * 30, [len(sound), 10**6], [len(sound) + 1, 10**6], [1] * 150):
        normalizer = reader(header)
        rows, failure = 0, ""
        for piece in [*pieces_of(sound + bytes(50), cuts), b"more"]:
            try:
                rows += sum(batch.num_rows for _, batch in normalizer.normalize([(piece, None)]).batches)
            except SourceError as error:
                failure = str(error)
        assert f"byte {len(header) + len(sound)}:" in failure
        assert rows == 2
        with pytest.raises(SourceError, match=f"byte {len(header) + len(sound)}:"):
            normalizer.finish()


@pytest.mark.parametrize("ts_local_ns", [None, T0 + 9])
def test_a_second_header_ends_the_delivery_and_is_named_however_the_bytes_are_cut(ts_local_ns: int | None) -> None:
    header, sound = es_header(), trade() + mapping(7, "ESH6") + trade(instrument_id=7)
    data = sound + header_of("OPRA.PILLAR", mappings={"SPY   251216C00680000": [(DAY, DAY, 5)]}) + trade() * 9
    at = len(header) + len(sound)
    some = [[10**6], [7] * 60, [len(sound), 10**6], [len(sound) + 1, 10**6], [len(sound) + 300, 10**6], [1] * 900]
    for cuts in some:
        normalizer = reader(header)
        rows, failure = 0, ""
        for piece in [*pieces_of(data, cuts), b"more"]:
            try:
                done = normalizer.normalize([(piece, ts_local_ns)])
            except SourceError as error:
                failure = str(error)
                break
            assert done.unreadable == []
            rows += sum(batch.num_rows for schema, batch in done.batches if schema.name == "futures.trades")
        assert f"from byte {at}: a second DBN header" in failure
        assert f"head -c {at}; tail -c +{at + 1}" in failure
        assert rows == 2
        with pytest.raises(SourceError, match=f"byte {at}: a second DBN header"):
            normalizer.finish()


def test_a_second_header_is_named_too_where_nothing_or_little_of_it_follows() -> None:
    header = es_header()
    for second in (b"DBN", header_of("OPRA.PILLAR")[:40]):
        normalizer = reader(header)
        assert [len(batch) for _, batch in normalizer.normalize([(trade() + second, None)]).batches] == [1]
        with pytest.raises(SourceError, match="a second DBN header(, of OPRA.PILLAR,)? ?begins there"):
            normalizer.finish()


def test_a_delivery_that_ends_inside_a_record_names_the_byte_where_it_ends() -> None:
    header, data = es_header(), trade() + trade()
    for size in range(len(data) + 1):
        run = Run(header, data[:size])
        if size % 48 == 0:
            run.normalizer.finish()
            continue
        with pytest.raises(TruncatedError) as truncated:
            run.normalizer.finish()
        assert truncated.value.byte == len(header) + size
        assert len(run.rows("futures.trades")) == size // 48


# Reference.


def test_definitions_and_mappings_keep_the_order_in_which_they_came() -> None:
    data = b"".join([mapping(1, "ESZ5"), definition("ESH6"), mapping(2, "ESM6"), trade(), definition("ESU6")])
    run = Run(es_header(schema=None), data)

    assert run.column("reference.instruments", "contract") == ["ESZ5", "ESH6", "ESM6", "ESU6"]
    assert run.column("reference.instruments", "record") == ["mapping", "definition", "mapping", "definition"]
    assert set(run.column("reference.instruments", "symbol")) == {"ES"}


def test_a_definition_of_a_weekly_option_is_filed_under_es() -> None:
    run = Run(es_header("definition"), definition("EW2F6 C7000", kind=b"C", asset=b"EW2", strike_price=7000 * 10**9))

    (row,) = run.rows("reference.instruments")
    assert (row["symbol"], row["asset"], row["strike"]) == ("ES", "EW2", 7000.0)


@pytest.mark.parametrize(("ts_local_ns", "expected"), [(T0 + 7, T0 + 7), (None, T0)])
def test_a_mapping_without_a_time_has_the_time_of_its_arrival_or_of_the_deliverys_start(
    ts_local_ns: int | None, expected: int
) -> None:
    run = Run(es_header(schema=None), mapping(1, "ESZ5", ts_event=UNDEF_U64), ts_local_ns=ts_local_ns)

    (row,) = run.rows("reference.instruments")
    assert (row["ts_event_ns"], row["ts_recv_ns"]) == (expected, expected)


def test_a_small_record_after_larger_ones_is_not_held_back() -> None:
    normalizer = reader(es_header(schema=None))

    normalized = normalizer.normalize([(record(MBP10) * 2 + trade(), None)])

    assert {schema.name: batch.num_rows for schema, batch in normalized.batches} == {
        "futures.mbp10": 2,
        "futures.trades": 1,
    }


def test_no_batch_is_longer_than_65536_rows() -> None:
    run = Run(es_header(), trade() * 100_000)

    assert sum(run.sizes) == 100_000
    assert max(run.sizes) <= 65_536


# Arbitrary bytes.

_any_record = st.builds(
    lambda kind, size, body, filler: bytes([size // 4, kind]) + (body + filler * 1020)[: size - 2],
    kind=st.sampled_from([TRADE, MBP10, DEFINITION, MAPPING, *LAYOUTS, 23, 77, 255]),
    size=st.sampled_from([48, 368, 520, 176, 4, 12, 16, 40, 80, 80, 1020]),
    body=st.binary(max_size=60),
    filler=st.sampled_from([b"\0", b"\x7f", b"\x80", b"\xff", b"A"]),
)


@settings(max_examples=400, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=600), st.lists(_any_record, max_size=12).map(b"".join)),
    cuts=st.lists(st.integers(0, 500), min_size=1, max_size=8),
    dataset=st.sampled_from(["GLBX.MDP3", "OPRA.PILLAR", "XNAS.ITCH"]),
)
def test_arbitrary_bytes_become_rows_or_are_accounted_for_however_they_are_cut(
    data: bytes, cuts: list[int], dataset: str
) -> None:
    header = header_of(dataset, None, symbols=["SPY"])
    at = records = 0
    while at < len(data) and not data.startswith(ENDS, at) and at + data[at] * 4 <= len(data):
        at, records = at + data[at] * 4, records + 1

    cut = feed(header, data, cuts)
    whole = feed(header, data, [10**6])

    assert sum(cut.sizes) + len(cut.unreadable) + cut.normalizer.ignored.total() == records
    assert cut.tables == whole.tables
    assert cut.unreadable == whole.unreadable
    assert cut.normalizer.ignored == whole.normalizer.ignored
    assert cut.normalizer.odd == whole.normalizer.odd
    assert cut.normalizer.unmapped == whole.normalizer.unmapped
    for name, table in cut.tables.items():
        for column in SCHEMAS[name].delivered:
            assert column.nullable or table[column.name].null_count == 0
    if at == len(data):
        cut.normalizer.finish()
    else:
        ended = at if data.startswith(ENDS, at) else len(data)
        with pytest.raises(SpymasterError, match=f"byte {len(header) + ended}"):
            cut.normalizer.finish()


def feed(header: bytes, data: bytes, cuts: list[int]) -> Run:
    """Feed all of `data`, as far as it can be framed."""
    try:
        return Run(header, data, cuts)
    except SourceError:
        end = 0
        while not data.startswith(ENDS, end):
            end += data[end] * 4
        run = Run(header, data[:end], cuts)
        with pytest.raises(SourceError):
            run.normalizer.normalize([(data[end:], None)])
        return run
