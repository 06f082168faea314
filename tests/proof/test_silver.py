"""Silver is audited by other means than it was made: a sound lake passes, and each planted defect is found."""

import asyncio
import json
import shutil
import sqlite3

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from spymaster import events
from spymaster.compaction import by_columns, by_sql, compactor
from spymaster.compaction.archiver import archive_before
from spymaster.compaction.engines import Engine
from spymaster.events import MARKET_SCHEMAS
from spymaster.lake import silver
from spymaster.lake.bronze import read_footer
from spymaster.lake.catalog import Catalog
from spymaster.paths import Partition
from spymaster.proof import comparison
from spymaster.proof import silver as verify_silver
from spymaster.proof.silver import audit_silver, list_files
from spymaster.proof.verdict import SilverVerdict
from spymaster.proof.verify import verify
from tests.command_line import spymaster
from tests.compaction.silver_oracle import flush
from tests.compaction.test_by_sql import say_begun
from tests.compaction.test_compactor import as_capture
from tests.proof.test_verify import record
from tests.rows import NOON_NS, TRADES, numbered
from tests.silver_files import compacted

KINDS = {column.name: column.type for column in silver.columns_of(TRADES)}
DAY_MS = 86_400_000
NOON = Partition("futures.trades", "symbol", "ES", "2025-12-22", 12)
OPTIONS = Partition("options.trades", "underlying", "SPY", "2025-12-22", 12)


def replaced(rows, **columns):
    """Return rows with other values in some columns."""
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))
    return rows


def repeating(count):
    """Return trades of twelve seconds of which many cannot be told apart, some without price, contract or number."""
    chance = np.random.default_rng(count)
    odd = chance.random(count) < 0.1
    return replaced(
        numbered(TRADES, count),
        ts_event_ns=NOON_NS + np.sort(chance.integers(0, 240, count)) * 50_000_000,
        price=[None if none else price for none, price in zip(odd, chance.integers(0, 2, count) / 4, strict=True)],
        contract=[None if none else "ESZ5" * (1 + 20 * none) for none in np.roll(odd, 1)],
        exchange=["x" * 100] * count,
        seq=[None if none else 7 for none in np.roll(odd, 2)],
        size=[1] * count, aggressor=[-1] * count, publisher_id=[1] * count, source=["sim"] * count,
    )  # fmt: skip


def capture(root, schema, rows, capture_id, symbol="ES"):
    own = as_capture(schema, rows.drop_columns(["capture_id", "capture_seq"]).combine_chunks(), capture_id)
    flush(root, schema, own, symbol, NOON_NS + capture_id)


def prices_of_one_print_in_two_precisions(root):
    """Capture prints live in milliseconds, and again from a file in nanoseconds, some with texts of 100 characters."""
    schema = events.STOCKS_TRADES
    rows = replaced(
        numbered(schema, 200, symbol="QQQ"), source=["massive.stocks"] * 200,
        trade_id=[None if number % 7 == 0 else str(number) * (50 if number % 5 == 0 else 1) for number in range(200)],
        price=[1e290 if number % 11 == 0 else number * 1.1 for number in range(200)],
    )  # fmt: skip
    capture(root, schema, rows.slice(0, 150), 1, "QQQ")
    exact = pc.add(rows["ts_event_ns"], 123_456)
    capture(root, schema, replaced(rows, ts_event_ns=exact.combine_chunks()).slice(100), 2, "QQQ")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A compacted lake of every schema, of captures that overlap, with a day whose parts are archived."""
    root = tmp_path_factory.mktemp("lake")
    truth = repeating(300)
    capture(root, TRADES, truth.slice(0, 200), 1)
    capture(root, TRADES, truth.slice(120), 2)
    capture(root, TRADES, truth.slice(50, 200), 3)
    capture(root, TRADES, numbered(TRADES, 100, -DAY_MS), 4)
    capture(root, TRADES, numbered(TRADES, 100, -DAY_MS + 50), 5)
    for schema in MARKET_SCHEMAS:
        capture(root, schema, numbered(schema, 60, symbol="SPY"), 6, "SPY")
    greeks = events.OPTIONS_GREEKS_SNAPSHOTS
    rows = numbered(greeks, 60, symbol="SPY")  # received together with others, which were updated later
    earlier = pc.subtract(rows["ts_event_ns"], 1).combine_chunks()
    capture(root, greeks, replaced(rows, ts_event_ns=earlier, delta=[0.5] * 60), 7, "SPY")
    prices_of_one_print_in_two_precisions(root)
    results = {result.partition: result.counts for result in compacted(root / "lake")}
    assert results[NOON].redelivered > 100
    assert results[NOON].repeats > 20
    assert results[OPTIONS].enriched > 20
    assert results[Partition("stocks.trades", "symbol", "QQQ", "2025-12-22", 12)].redelivered == 50
    assert archive_before(root / "lake", "2025-12-22").parts == 2
    return root


@pytest.fixture
def root(made, tmp_path):
    shutil.copytree(made / "lake", tmp_path / "lake")
    return tmp_path


def audit(root, date=None):
    """Return the whole verdict, without what it says of captures that no recorder began."""
    verdict = verify(root / "wal", root / "lake", date)
    verdict.findings = [line for line in verdict.findings if "no begin row" not in line]
    verdict.notes = [line for line in verdict.notes if "not in the catalog" not in line]
    return verdict


def finding_of(root, partition=NOON) -> str:
    """Return the one finding that there is, after it was seen that it names the file and what to do."""
    file = silver.file_of(root / "lake", partition)
    found = audit_silver(root / "lake", {file: partition}, set(), lambda done: None)
    assert len(found.findings) == 1, found
    assert file.relative_to(root / "lake").as_posix() in found.findings[0]
    assert "Next: " in found.findings[0]
    assert "\n" not in found.findings[0]
    return found.findings[0]


def rewrite(root, change=lambda rows: rows, partition=NOON, **footer) -> None:
    """Write a partition's Silver again with other rows, or with something else in its footer."""
    file = silver.file_of(root / "lake", partition)
    rows = pq.ParquetFile(file).read()
    kept = {key: value for key, value in pq.read_metadata(file).metadata.items() if key.startswith(b"spymaster")}
    kept |= {f"spymaster_{key}".encode(): value.encode() for key, value in footer.items()}
    pq.write_table(change(rows).replace_schema_metadata(kept), file)


def with_value(rows, column, number, value):
    """Return rows with another value in one place."""
    place = rows.schema.get_field_index(column)
    kind = rows.schema.field(place).type
    mask = np.arange(rows.num_rows) == number
    if pa.types.is_list(kind):
        values = rows[column].to_pylist()
        values[number] = value
        other = pa.array(values, kind)
    else:
        other = pc.if_else(pa.array(mask), pa.scalar(value, kind), rows[column].combine_chunks())
    return rows.set_column(place, rows.schema.field(place), other)


def another(value, kind):
    """Return a value that is not this one."""
    if pa.types.is_list(kind):
        return [1, 2]
    if pa.types.is_string(kind):
        return (value or "") + "!"
    if pa.types.is_fixed_size_binary(kind):
        return bytes([value[0] ^ 1]) + value[1:]
    if pa.types.is_date(kind):
        return 1
    return 1 if value is None else value + 1


def test_a_sound_lake_of_every_schema_with_overlapping_captures_and_archived_parts_is_proven(root):
    verdict = audit(root)

    assert (verdict.findings, verdict.notes) == ([], [])
    assert verdict.silver.audited == len(list_files(root / "lake")) == 3 + len(MARKET_SCHEMAS)
    assert verdict.silver.stale == 0


def test_a_partition_in_many_slices_is_compared_as_in_one(root, monkeypatch):
    monkeypatch.setattr(comparison, "_SLICE_VALUES", 500)
    assert audit(root).findings == []
    rewrite(root, lambda rows: rows.take([*range(1, rows.num_rows), 0]))

    line = finding_of(root)

    assert "300 rows are not in their order" in line
    assert "missing" not in line


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows.take([*range(50), *range(51, 300)]), ": 1 rows are missing; first that of capture"),
        (lambda rows: rows.slice(0, 0), ": 300 rows are missing"),
        (lambda rows: rows.take([*range(51), *range(50, 300)]), ": 1 rows do not belong in it"),
        (lambda rows: rows.take([*range(50), 51, 50, *range(52, 300)]), ": 2 rows are not in their order"),
        (
            lambda rows: rows.append_column("more", pa.nulls(300, pa.int8())),
            ": it has columns that no Silver has (more",
        ),
        (lambda rows: rows.drop_columns("size"), ": 300 rows differ in size"),
    ],
    ids=["dropped", "emptied", "doubled", "swapped", "a column more", "a column less"],
)
def test_a_row_lost_doubled_or_moved_is_a_finding(root, change, complaint):
    rewrite(root, change)

    assert complaint in finding_of(root)


@pytest.mark.parametrize("number", [0, 33, -1])
@pytest.mark.parametrize("partition", [NOON, OPTIONS], ids=["futures", "options"])
def test_another_value_in_any_column_of_any_row_is_a_finding(root, partition, number):
    rows = pq.ParquetFile(silver.file_of(root / "lake", partition)).read()
    number %= rows.num_rows
    columns = sorted(set(rows.column_names) - {"capture_id", "capture_seq", "ts_event_ns"})

    def changed(rows):
        for name in columns:
            value = another(rows[name][number].as_py(), rows.schema.field(name).type)
            rows = with_value(rows, name, number, value)
        return rows

    rewrite(root, changed, partition)

    assert f": 1 rows differ in {', '.join(columns)}; first that of capture " in finding_of(root, partition)


@pytest.mark.parametrize("column", ["event_id", "occurrence", "ts_event_ns", "capture_seq"])
def test_a_row_with_another_name_place_or_number_is_a_finding(root, column):
    value = another(pq.ParquetFile(silver.file_of(root / "lake", NOON)).read()[column][33].as_py(), KINDS[column])
    rewrite(root, lambda rows: with_value(rows, column, 33, value))

    complaint = "1 rows are missing; 1 rows do not belong in it" if column == "capture_seq" else f"differ in {column}"
    assert complaint in finding_of(root)


def test_a_survivor_that_is_not_the_first_received_is_a_finding(root):
    bronze = pa.concat_tables(
        pq.ParquetFile(path).read() for path in silver.bronze_parts(root / "lake", NOON)
    ).to_pylist()

    def other_delivery(rows):
        kept = rows.to_pylist()
        for number, row in enumerate(kept):
            for one in bronze:
                same = all(one[name] == row[name] for name in ("ts_event_ns", "price", "contract", "seq"))
                if same and one["capture_id"] != row["capture_id"] and row["occurrence"] == 1:
                    kept[number] = row | one
                    return pa.Table.from_pylist(kept, rows.schema)
        raise AssertionError

    rewrite(root, other_delivery)

    assert ": 1 rows are missing; 1 rows do not belong in it" in finding_of(root)


@pytest.mark.parametrize("place", range(len(silver.Counts._fields)))
def test_a_footer_that_counts_otherwise_is_a_finding(root, place):
    counts = list(silver.read_footer(silver.file_of(root / "lake", OPTIONS)).counts)
    counts[place] += 1
    rewrite(root, partition=OPTIONS, counts=",".join(map(str, counts)))

    name = silver.Counts._fields[place]
    assert f"gives: its footer says {'1 unproven' if name == 'unproven' else name}" in finding_of(root, OPTIONS)


def test_what_spymaster_did_not_write_is_a_finding(root):
    file = silver.file_of(root / "lake", NOON)
    pq.write_table(pa.table({"a": [1]}), file)
    assert "is no Silver that spymaster wrote" in finding_of(root)
    file.write_bytes(b"none of ours")
    assert "is no Silver that spymaster wrote" in finding_of(root)


def test_rot_in_a_page_is_a_finding(root):
    file = silver.file_of(root / "lake", NOON)
    sound = file.read_bytes()
    chunk = pq.read_metadata(file).row_group(0)
    for column in (chunk.column(0), chunk.column(chunk.num_columns - 1)):
        data = bytearray(sound)
        data[(column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 3] ^= 4
        file.write_bytes(data)
        assert "is not what its Bronze gives" in finding_of(root)


def test_the_file_of_another_hour_is_a_finding_though_it_was_made_of_parts_of_the_same_names(tmp_path):
    flush(tmp_path, TRADES, numbered(TRADES, 200, 3_600_000 - 100))
    compacted(tmp_path / "lake")
    later = silver.file_of(tmp_path / "lake", NOON._replace(hour=13))
    shutil.copy(silver.file_of(tmp_path / "lake", NOON), later)

    assert "100 rows are missing; 100 rows do not belong in it" in finding_of(tmp_path, NOON._replace(hour=13))


def test_a_file_where_no_silver_belongs_is_a_finding(root):
    file = silver.file_of(root / "lake", NOON)
    strays = ("silver/part-0000.parquet", "silver/futures/trades/symbol=/date=x/hour=y/part-0000.parquet")
    for place in strays:
        (root / "lake" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / "lake" / place)
    shutil.copy(file, file.with_name(".part-0000.parquet.tmp"))  # a draft that a kill left
    shutil.copy(file, file.with_name("part-0001.parquet"))

    assert len([line for line in audit(root).findings if "lies where no Silver belongs" in line]) == 3


def test_silver_of_before_bronze_changed_is_a_note(root):
    capture(root, TRADES, numbered(TRADES, 10, 20_000), 9)

    verdict = audit(root)

    assert verdict.findings == []
    (note,) = verdict.notes
    assert "date=2025-12-22/hour=12/part-0000.parquet was not compacted since its Bronze or the rule " in note
    assert note.endswith("Next: spymaster compact")
    assert verdict.silver.stale == 1
    assert verdict.silver.audited == 2 + len(MARKET_SCHEMAS)


@pytest.mark.parametrize("values", [6_000_000, 500])
def test_silver_of_before_bronze_changed_with_rows_that_bronze_has_not_is_a_finding(root, values, monkeypatch):
    monkeypatch.setattr(comparison, "_SLICE_VALUES", values)
    for part in silver.bronze_parts(root / "lake", NOON):
        if read_footer(part).captures[0].capture_id == 1:
            part.unlink()

    line = finding_of(root)

    kept = pq.ParquetFile(silver.file_of(root / "lake", NOON)).read(["capture_id"])["capture_id"].to_pylist()
    assert f"has {kept.count(1)} rows that Bronze has not" in line
    assert "keep a copy" in line


def test_option_trades_whose_greeks_changed_are_a_note_and_all_else_of_them_is_compared(root):
    capture(
        root, events.OPTIONS_GREEKS_SNAPSHOTS, numbered(events.OPTIONS_GREEKS_SNAPSHOTS, 9, 60, symbol="SPY"), 9, "SPY"
    )
    with compactor.lock(root / "lake"):
        compactor.compact(
            root / "lake", compactor.partitions(root / "lake", [events.OPTIONS_GREEKS_SNAPSHOTS]), threads=1
        )

    verdict = audit(root)
    rewrite(root, lambda rows: with_value(rows, "size", 5, 1234), OPTIONS)

    assert verdict.findings == []
    assert [line.split(" took ")[1] for line in verdict.notes] == [
        "greeks that have changed since, and all else is as its Bronze gives. Next: spymaster compact"
    ]
    assert (verdict.silver.stale, verdict.silver.audited) == (1, 3 + len(MARKET_SCHEMAS))
    assert "1 rows differ in size" in finding_of(root, OPTIONS)


def test_silver_that_is_all_that_is_left_is_a_finding_and_never_to_be_deleted(root):
    shutil.rmtree(root / "lake" / "bronze" / NOON.folder)
    assert "is all that is left of its rows: Bronze is gone. Next: keep it" in finding_of(root)

    shutil.rmtree(root / "lake" / "bronze")
    shutil.rmtree(root / "lake" / "archive")
    assert len([line for line in audit(root).findings if "Bronze is gone" in line]) == 3 + len(MARKET_SCHEMAS)


def test_silver_of_damaged_bronze_is_kept_and_not_blamed(root):
    archived = next((root / "lake" / "archive").rglob("part-*.parquet"))
    damaged = silver.bronze_parts(root / "lake", NOON)[0]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(data)
    archived.unlink()

    verdict = audit(root)

    assert not any("silver/" in line for line in verdict.findings)
    assert len(verdict.findings) == 2
    assert len([line for line in verdict.notes if "Next: keep it, and do not compact" in line]) == 2


def test_with_a_date_only_its_silver_is_audited(root):
    rewrite(root, lambda rows: rows.slice(1))

    assert audit(root, "2025-12-21").findings == []
    assert audit(root, "2025-12-21").silver.audited == 1
    assert len(audit(root, "2025-12-22").findings) == 1


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(root, monkeypatch):
    load, tries = comparison.Comparison._load_held, []

    def replaced_first(self, piece):
        if len(tries) < most:
            tries.append(piece)
            capture(root, TRADES, numbered(TRADES, 10, 100 * len(tries)), 100 + len(tries))
            compacted(root / "lake")
        load(self, piece)

    monkeypatch.setattr(comparison.Comparison, "_load_held", replaced_first)
    file = silver.file_of(root / "lake", NOON)
    for most, audited in ((2, 1), (2 + verify_silver.MAX_TRIES, 0)):
        found = audit_silver(root / "lake", {file: NOON}, set(), lambda done: None)
        assert (found.findings, found.audited, len(tries)) == ([], audited, most)
    assert "was replaced each time that it was read" in found.notes[0]
    file.unlink()
    assert audit_silver(root / "lake", {file: NOON}, set(), lambda done: None) == SilverVerdict()


def test_a_part_that_is_archived_while_it_is_read_is_read_where_it_went(root, monkeypatch):
    parts_of, asked = comparison.Comparison._parts_of, []

    def archived_first(self, piece):
        found = parts_of(self, piece)
        if not asked:
            archive_before(root / "lake", "2025-12-23")
        asked.append(found)
        return found

    monkeypatch.setattr(comparison.Comparison, "_parts_of", archived_first)
    file = silver.file_of(root / "lake", NOON)
    found = audit_silver(root / "lake", {file: NOON}, set(), lambda done: None)

    assert (found.findings, found.notes, found.audited) == ([], [], 1)
    assert len(asked) == 1 + 2  # once in vain, then by both engines


def test_a_file_is_proven_by_the_engine_that_did_not_make_it_and_by_both_where_none_is_named(root, monkeypatch):
    used = []
    for engine, module in ((Engine.NUMPY, by_columns), (Engine.DUCKDB, by_sql)):
        make = module.make
        monkeypatch.setattr(module, "make", lambda *given, e=engine, make=make: used.append(e) or make(*given))
    lake = root / "lake"
    file = silver.file_of(lake, NOON)

    def provers():
        used.clear()
        assert audit_silver(lake, {file: NOON}, set(), lambda done: None).findings == []
        return used[:]

    assert provers() == [Engine.NUMPY, Engine.DUCKDB]  # there is no catalog
    Catalog(lake).close()
    for engine in Engine:
        file.unlink()
        with compactor.lock(lake):
            compactor.compact(lake, [NOON], engine=engine)
        assert provers() == [engine.other]
    database = sqlite3.connect(lake / "catalog.db")
    for change in ("update compactions set engine = 'numpy'", "drop table compactions"):  # whose sum is not so
        with database:
            database.execute(change)
        assert provers() == [Engine.NUMPY, Engine.DUCKDB]
    database.close()
    (lake / "catalog.db").write_bytes(b"none of ours")
    assert provers() == [Engine.NUMPY, Engine.DUCKDB]


@pytest.mark.parametrize("engine", Engine)
def test_what_one_engine_makes_otherwise_is_a_finding(root, monkeypatch, engine):
    module = by_columns if engine is Engine.NUMPY else by_sql
    make = module.make
    monkeypatch.setattr(module, "make", lambda *given: (made := make(*given))._replace(rows=made.rows.slice(1)))

    assert "1 rows do not belong in it" in finding_of(root)


def test_files_of_which_bronze_says_otherwise_when_they_were_captured_make_silver_stale(root):
    lake, rows = root / "lake", numbered(TRADES, 20, 40_000)
    nulls = pa.nulls(20, pa.int64())
    for capture_id, price in ((21, 1.0), (22, 2.0)):
        capture(root, TRADES, replaced(rows, ts_local_ns=nulls, exchange=[f"x{price}"] * 20), capture_id)
    say_begun(root, [21])
    compacted(lake)
    file, partitions = silver.file_of(lake, NOON), {silver.file_of(lake, NOON): NOON}
    footer = silver.read_footer(file)
    assert (footer.counts.unordered, footer.begins) == (1, {21: NOON_NS, 22: None})
    assert footer.counts.differing >= 20
    assert audit_silver(lake, partitions, set(), lambda done: None) == SilverVerdict(
        audited=1, rows_in=footer.counts.rows_in, rows=footer.counts.rows_out
    )

    say_begun(root, [1, 2, 22])
    found = audit_silver(lake, partitions, set(), lambda done: None)
    results = compacted(lake)

    assert (found.findings, found.stale, found.audited) == ([], 1, 1)
    assert "took times at which its files were captured that have changed since" in found.notes[0]
    assert {result.status for result in results if result.partition == NOON} == {"compacted"}
    assert silver.read_footer(file).begins == {21: NOON_NS, 22: NOON_NS + 2_000_000}
    rewrite(root, begins=f"21:{NOON_NS}")
    assert "its footer names other files than gave its rows" in finding_of(root)


@pytest.mark.parametrize("engine", Engine)
def test_a_row_at_the_end_of_int64_is_as_any_other(tmp_path, engine):
    last = 2**63 - 1
    schema = events.STOCKS_TRADES
    rows = replaced(numbered(schema, 3, symbol="SPY"), ts_event_ns=[NOON_NS, last - 1, last])
    for capture_id in (1, 2):
        capture(tmp_path, schema, rows, capture_id, "SPY")
    lake = tmp_path / "lake"
    with compactor.lock(lake):
        results = compactor.compact(lake, compactor.partitions(lake, MARKET_SCHEMAS), engine=engine)

    assert sum(result.counts.rows_out for result in results) == 3
    found = audit_silver(lake, list_files(lake), set(), lambda done: None)
    assert (found.findings, found.notes, found.audited, found.rows) == ([], [], 2, 3)


def test_the_command_counts_the_silver_that_it_audited(tmp_path):
    asyncio.run(record(tmp_path, 300, end=True))
    compacted(tmp_path / "lake")

    def run(*more):
        roots = ["--data-root", str(tmp_path / "lake"), "--wal-root", str(tmp_path / "wal")]
        return spymaster("verify", *roots, *more)

    sound = run()
    assert (sound.returncode, sound.stderr) == (0, "")
    assert (
        "; 1 silver partitions audited, 0 stale: 300 events of 300 rows, 0.00% delivered again; 0 findings."
        in sound.stdout
    )
    rewrite(tmp_path, lambda rows: rows.slice(1))
    broken = run("--json")
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["silver"] == {
        "audited": 1, "stale": 0, "rows_in": 0, "rows": 0, "redelivered_share": 0.0,
    }  # fmt: skip
    assert "1 rows are missing" in json.loads(broken.stdout)["findings"][0]
