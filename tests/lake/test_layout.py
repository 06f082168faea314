"""What lies in a lake: our own files by their keys, those of others told apart, and nothing stopped by them."""

import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster import connect, events
from spymaster.errors import LayoutError
from spymaster.events import Stream
from spymaster.lake import layout
from spymaster.lake.bronze import flush_segment
from spymaster.lake.catalog import Catalog
from spymaster.lake.layout import Tier, Within
from spymaster.paths import Partition
from spymaster.proof.verify import verify
from spymaster.query.bronze_rows import Reader
from spymaster.wal.sealed import read_sealed
from spymaster.wal.segment import Header
from spymaster.wal.segment_writer import encode_segment
from tests.rows import NOON_NS, TRADES, numbered
from tests.silver_files import compacted

PART = "part-120000_000000-00000000.parquet"
NOON = "futures/trades/symbol=ES/date=2025-12-22/hour=12"


def put(data_root, *keys):
    for key in keys:
        file = data_root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"PAR1")


def partition(value="ES", date="2025-12-22", hour=12, schema="futures.trades", key="symbol"):
    return Partition(schema, key, value, date, hour)


def test_parts_are_found_by_their_keys_in_order_and_one_that_lies_in_both_tiers_counts_once(tmp_path):
    daily = "system/captures/symbol=spymaster/date=2025-12-22"
    put(tmp_path, f"bronze/{NOON}/{PART}", f"archive/bronze/{NOON}/{PART}", f"bronze/{daily}/{PART}")
    put(tmp_path, f"archive/bronze/{NOON}/part-115959_999999-00000000.1.parquet")
    put(tmp_path, f"bronze/{NOON}/.{PART}.tmp", f"bronze/{NOON}/_archived.json", "silver/mine.parquet")

    found = layout.find_parts(tmp_path)

    own = partition("spymaster", hour=None, schema="system.captures")
    assert list(found.parts.items()) == [
        (f"{NOON}/part-115959_999999-00000000.1.parquet", partition()),
        (f"{NOON}/{PART}", partition()),
        (f"{daily}/{PART}", own),
    ]
    assert [found.tier_of(key) for key in found.parts] == [Tier.ARCHIVE, Tier.ARCHIVE, Tier.BRONZE]
    assert (found.foreign, found.foreign_count, found.otherwise) == ([], 0, None)


@pytest.mark.parametrize(
    "key",
    [
        "mine.parquet",
        "futures/mine.parquet",
        "exports/2025/trades.parquet",
        "futures/trades/mine.parquet",
        "futures/trades/symbol=ES/mine.parquet",
        f"{NOON}/mine.parquet",
        f"{NOON}/part-mine.parquet",
        f"{NOON}/part-143012_345678.parquet",
        f"{NOON}/deeper/mine.parquet",
    ],
)
@pytest.mark.parametrize("tier", ["bronze", "archive/bronze"])
def test_a_parquet_file_that_we_would_not_write_is_foreign(tmp_path, tier, key):
    put(tmp_path, f"{tier}/{key}", f"bronze/{NOON}/{PART}")

    found = layout.find_parts(tmp_path)

    assert (found.foreign, found.foreign_count) == ([f"{tier}/{key}"], 1)
    assert list(found.parts) == [f"{NOON}/{PART}"]
    layout.require_own_layout(tmp_path, found)


@pytest.mark.parametrize(
    "key",
    [
        f"futures/trades/date=2025-12-22/symbol=ES/{PART}",
        "futures/trades/2024/12/22/mine.parquet",
        f"options/trades/symbol=SPY/date=2025-12-22/hour=14/{PART}",
        f"futures/candles/symbol=ES/date=2025-12-22/hour=14/{PART}",
        f"futures/trades/symbol=ES/date=2025-12-22/{PART}",
        f"futures/trades/symbol=ES/date=20251222/hour=12/{PART}",
        f"futures/trades/symbol=%45S/date=2025-12-22/hour=12/{PART}",
        f"futures/trades/symbol={'A' * 65}/date=2025-12-22/hour=12/{PART}",
        f"system/captures/symbol=spymaster/date=2025-12-22/hour=12/{PART}",
    ],
)
def test_folders_that_contradict_ours_are_another_layout(tmp_path, key):
    put(tmp_path, f"bronze/{key}", f"bronze/{NOON}/{PART}")

    found = layout.find_parts(tmp_path)

    assert found.otherwise == f"bronze/{key}"
    with pytest.raises(LayoutError, match=r"laid out otherwise.*Next: point DATA_ROOT at an empty folder"):
        layout.require_own_layout(tmp_path, found)
    with pytest.raises(LayoutError, match="laid out otherwise"):
        Catalog(tmp_path)
    with pytest.raises(LayoutError, match="laid out otherwise"):
        compacted(tmp_path)


def test_foreign_files_are_counted_and_only_the_first_are_named(tmp_path):
    put(tmp_path, *(f"bronze/{number:03}.parquet" for number in range(layout.MAX_FOREIGN + 5)))

    found = layout.find_parts(tmp_path)

    assert (len(found.foreign), found.foreign_count) == (layout.MAX_FOREIGN, layout.MAX_FOREIGN + 5)
    assert found.foreign[0] == "bronze/000.parquet"


def test_partitions_are_those_of_a_span_in_whichever_tier_they_have_a_folder(tmp_path):
    put(tmp_path, f"bronze/{NOON}/{PART}", f"archive/bronze/{NOON.replace('hour=12', 'hour=09')}/{PART}")
    put(tmp_path, f"bronze/{NOON.replace('22', '23')}/{PART}", f"bronze/{NOON.replace('=ES', '=NQ')}/{PART}")
    put(tmp_path, f"silver/{NOON.replace('hour=12', 'hour=07')}/{layout.SILVER_FILE}")
    (tmp_path / "bronze" / NOON / "../hour=noon").mkdir()
    (tmp_path / "bronze" / NOON / "../../date=today/hour=12").mkdir(parents=True)
    day = [partition(hour=9), partition(hour=12)]

    assert layout.partitions(tmp_path, TRADES) == [*day, partition(date="2025-12-23"), partition("NQ")]
    assert layout.partitions(tmp_path, TRADES, layout.of_date("ES", "2025-12-22")) == day
    assert layout.partitions(tmp_path, TRADES, Within("ES", "2025-12-22T10", "2025-12-22T12")) == [partition()]
    assert layout.partitions(tmp_path, TRADES, Within(last="2025-12-22T08"), tuple(Tier)) == [partition(hour=7)]
    assert layout.dates(tmp_path, TRADES, "ES") == ["2025-12-22", "2025-12-23"]


def test_silver_of_option_trades_has_another_name_and_its_files_say_their_partition(tmp_path):
    own = partition("SPY", schema="options.trades", key="underlying")
    there = "options/trades_enriched/underlying=SPY/date=2025-12-22/hour=12"
    put(tmp_path, f"silver/{there}/{layout.SILVER_FILE}", f"silver/{there}/mine.parquet")
    put(tmp_path, "silver/features/x.parquet", f"silver/datasets/ohlcv/symbol=ES/date=2025-12-22/{layout.SILVER_FILE}")
    put(tmp_path, f"silver/options/trades/underlying=SPY/date=2025-12-22/hour=12/{layout.SILVER_FILE}")

    assert layout.partitions(tmp_path, events.OPTIONS_TRADES, tiers=[Tier.SILVER]) == [own]
    assert {key: found for key, found in layout.silver_files(tmp_path).items() if found} == {
        f"{there}/{layout.SILVER_FILE}": own
    }
    put(tmp_path, f"silver/{layout.SILVER_FILE}")
    assert layout.silver_files(tmp_path)[layout.SILVER_FILE] is None
    assert len(layout.silver_files(tmp_path)) == 4
    assert layout.dataset_files(tmp_path, "ohlcv") == [f"symbol=ES/date=2025-12-22/{layout.SILVER_FILE}"]


def test_drafts_are_found_at_any_depth(tmp_path):
    drafts = {f"bronze/{NOON}/.{PART}.tmp", "bronze/.x.tmp"}
    put(tmp_path, *drafts, f"bronze/{NOON}/{PART}", "silver/.y.tmp")

    assert set(layout.drafts(tmp_path, Tier.BRONZE)) == {tmp_path / key for key in drafts}


def test_a_file_that_takes_anothers_name_has_another_token(tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"one")
    other.write_bytes(b"two")
    before = layout.token(file)

    assert layout.token(file) == before
    other.replace(file)
    assert layout.token(file) != before


@pytest.fixture
def lake(tmp_path):
    """Leave a lake of one hour with strangers in it: by their names, and one that has the name of a part."""
    rows = numbered(TRADES, 100)
    segment = tmp_path / "segment.arrow"
    segment.write_bytes(encode_segment(Header.new(Stream("futures.trades", "ES"), 1, NOON_NS), rows, None))
    flush_segment(tmp_path / "lake" / "bronze", read_sealed(segment), again=False)
    segment.unlink()
    (tmp_path / "wal").mkdir()
    for key in ("mine.parquet", f"{NOON}/part-mine.parquet", f"{NOON}/{PART}"):
        pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "lake" / "bronze" / key)
    return tmp_path / "lake"


STRANGERS = ["bronze/mine.parquet", f"bronze/{NOON}/part-mine.parquet", f"bronze/{NOON}/{PART}"]


def test_the_catalog_passes_over_files_that_are_not_ours_and_names_them(lake):
    catalog = Catalog(lake)
    try:
        assert (catalog.foreign, catalog.foreign_count) == (sorted(STRANGERS), 3)
        assert catalog.recorded_numbers(1, "futures.trades").tolist() == list(range(100))
    finally:
        catalog.close()


def test_a_start_and_verify_name_files_that_are_not_ours(lake):
    catalog = Catalog(lake)
    catalog.close()

    findings = verify(lake.parent / "wal", lake).findings

    for key in STRANGERS:
        assert key in catalog.strangers
        assert [line for line in findings if line.startswith(f"{key} is not ours")]
    assert len([line for line in findings if "not ours" in line]) == len(STRANGERS)


def test_queries_and_compaction_pass_over_files_that_are_not_ours(lake):
    (lake / f"bronze/{NOON}/{PART}").unlink()  # the name of a part makes compaction refuse its hour

    with connect(lake, lake.parent / "wal") as sql:
        for view in ("futures_trades", "bronze_futures_trades"):
            assert sql.execute(f"select count(*) from {view}").fetchone() == (100,)
    assert Reader(lake, "arrow").read("futures.trades", "ES").num_rows == 100
    (result,) = compacted(lake)
    assert (result.status, result.counts.rows_out) == ("compacted", 100)


def test_a_stranger_with_the_name_of_a_part_stops_no_query(lake):
    with connect(lake, lake.parent / "wal") as sql:
        assert sql.execute("select count(*) from futures_trades").fetchone() == (100,)
    assert Reader(lake, "arrow").read("futures.trades", "ES").num_rows == 100
    (result,) = compacted(lake)
    assert result.status == "refused"
    assert PART in result.reason


def test_a_damaged_part_is_no_stranger(lake):
    shutil.rmtree(lake / "bronze" / NOON)
    put(lake, f"bronze/{NOON}/{PART}")

    catalog = Catalog(lake)
    catalog.close()

    assert catalog.foreign == ["bronze/mine.parquet"]
    with connect(lake, lake.parent / "wal") as sql, pytest.raises((LayoutError, duckdb.Error)):
        sql.execute("select count(*) from futures_trades")
