"""Which contract is the front month, and what the choice rests on."""

import asyncio
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from spymaster import BronzeReader, BronzeWriter, ContractSelector
from spymaster.errors import UsageError
from tests.rows import BOOKS, delivered

# Moments of winter: 14:30 to 21:00 UTC are New York's regular hours.
NIGHT, RTH = "08:00:00", "15:00:00"


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setenv("WAL_ROOT", str(tmp_path / "wal"))
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "lake"))
    return tmp_path / "lake"


def ns(date, clock):
    seconds = datetime.fromisoformat(f"{date} {clock.partition('.')[0]}").replace(tzinfo=UTC).timestamp()
    return int(seconds) * 1_000_000_000 + int(clock.partition(".")[2].ljust(9, "0"))


def record(*trades):
    """Write trades (date, time, contract, size) as one capture."""
    columns = {
        "ts_event_ns": [ns(date, clock) for date, clock, _, _ in trades],
        "symbol": ["ES"] * len(trades),
        "contract": [contract for _, _, contract, _ in trades],
        "size": pa.array([size for *_, size in trades], pa.int32()),
        "aggressor": pa.array([0] * len(trades), pa.int8()),
    }
    asyncio.run(write("futures.trades", pa.RecordBatch.from_pydict(columns)))


async def write(schema, batch):
    writer = BronzeWriter()
    await writer.write(schema, batch)
    await writer.stop()


def record_roll():
    """Friday 19 December's regular hours are the first in which March trades more than December."""
    record(
        ("2025-12-18", RTH, "ESZ5", 70),
        ("2025-12-18", RTH, "ESH6", 30),
        ("2025-12-19", NIGHT, "ESZ5", 500),
        ("2025-12-19", RTH, "ESZ5", 40),
        ("2025-12-19", RTH, "ESH6", 60),
        ("2025-12-19", RTH, "ESZ5-ESH6", 900),
        ("2025-12-22", RTH, "ESZ5", 5),
        ("2025-12-22", RTH, "ESH6", 95),
    )


def test_a_roll_is_chosen_by_the_session_before_and_by_its_own_where_asked(lake):
    record_roll()
    selector = ContractSelector(lake)

    before = selector.front_month("ES", "2025-12-19")
    assert (before.contract, before.evidence_date, before.share) == ("ESZ5", "2025-12-18", 0.7)
    assert before.point_in_time
    own = selector.front_month("ES", "2025-12-19", as_of="close")
    assert (own.contract, own.evidence_date, own.share) == ("ESH6", "2025-12-19", 0.6)
    assert not own.point_in_time
    assert selector.front_month("ES", "2025-12-22").contract == "ESH6"


def test_the_evidence_is_what_each_outright_traded_in_regular_hours(lake):
    record_roll()
    choice = ContractSelector(lake).front_month("ES", "2025-12-22")

    assert choice.volumes == (("ESH6", 60), ("ESZ5", 40))
    assert (choice.root, choice.date, choice.hours, choice.tier) == ("ES", "2025-12-22", "rth", "bronze")


def test_later_rows_change_no_choice(lake):
    record(("2025-12-18", RTH, "ESZ5", 70), ("2025-12-18", RTH, "ESH6", 30))
    choice = ContractSelector(lake).front_month("ES", "2025-12-19")
    record(("2025-12-19", NIGHT, "ESH6", 900), ("2025-12-19", RTH, "ESH6", 900), ("2025-12-22", RTH, "ESH6", 900))

    assert choice.contract == "ESZ5"
    assert ContractSelector(lake).front_month("ES", "2025-12-19") == choice


def test_the_first_date_of_a_lake_rests_on_itself_and_says_so(lake):
    record_roll()
    choice = ContractSelector(lake).front_month("ES", "2025-12-18")

    assert (choice.contract, choice.evidence_date) == ("ESZ5", "2025-12-18")
    assert not choice.point_in_time


@pytest.mark.parametrize(
    "spread", ["ESZ5-ESH6", "UD:1V:2911", "ESZ5 ESH6", "ES.c.0", "ES.v.1", "ES.FUT", "17077", "", None]
)
def test_what_is_no_contract_is_never_chosen_and_its_volume_counts_for_nobody(lake, spread):
    record(("2025-12-18", RTH, spread, 900), ("2025-12-18", RTH, "ESZ5", 2), ("2025-12-19", RTH, spread, 900))
    selector = ContractSelector(lake)

    choice = selector.front_month("ES", "2025-12-18", as_of="close")
    assert (choice.contract, choice.share, choice.volumes) == ("ESZ5", 1.0, (("ESZ5", 2),))
    alone = selector.front_month("ES", "2025-12-19", as_of="close")
    assert (alone.contract, alone.evidence_date) == ("ESZ5", "2025-12-18")


def test_regular_hours_are_half_open_and_end_early_on_a_half_day(lake):
    record(
        ("2025-12-22", "14:29:59.999999999", "ESZ5", 100),
        ("2025-12-22", "14:30:00", "ESH6", 1),
        ("2025-12-22", "20:59:59.999999999", "ESH6", 1),
        ("2025-12-22", "21:00:00", "ESZ5", 100),
        ("2025-12-24", "17:59:59.999999999", "ESH6", 1),
        ("2025-12-24", "18:00:00", "ESZ5", 100),
    )
    selector = ContractSelector(lake)

    assert selector.front_month("ES", "2025-12-22", as_of="close").volumes == (("ESH6", 2),)
    assert selector.front_month("ES", "2025-12-24", as_of="close").volumes == (("ESH6", 1),)


def test_a_date_without_trades_in_regular_hours_counts_whole_for_itself_and_for_no_other(lake):
    record(
        ("2025-12-19", RTH, "ESZ5", 10),
        ("2025-12-21", "23:30:00", "ESH6", 100),  # Sunday evening: Monday's session has begun
        ("2025-12-22", RTH, "ESZ5", 10),
    )
    selector = ContractSelector(lake)

    sunday = selector.front_month("ES", "2025-12-21", as_of="close")
    assert (sunday.contract, sunday.hours) == ("ESH6", "all")
    monday = selector.front_month("ES", "2025-12-22")
    assert (monday.contract, monday.evidence_date) == ("ESZ5", "2025-12-19")


def test_a_holidays_trades_are_no_evidence_for_the_day_after(lake):
    record(("2025-11-26", RTH, "ESZ5", 10), ("2025-11-27", RTH, "ESH6", 100))

    assert ContractSelector(lake).front_month("ES", "2025-11-28").evidence_date == "2025-11-26"


def test_without_trades_there_is_no_choice(lake):
    record(("2025-12-18", RTH, "ESZ5-ESH6", 10), ("2025-12-18", RTH, None, 10), ("2025-12-18", RTH, "ESZ5", None))
    selector = ContractSelector(lake)

    for root, date, as_of in (
        ("ES", "2025-12-19", "open"),
        ("ES", "2025-12-18", "close"),
        ("NQ", "2025-12-18", "open"),
    ):
        choice = selector.front_month(root, date, as_of=as_of)
        assert (choice.contract, choice.evidence_date, choice.hours, choice.volumes) == (None, None, None, ())
        assert choice.share is None
        assert not choice.dominant


def test_dominance_is_a_share_that_the_choice_must_reach(lake):
    record(
        ("2025-12-18", RTH, "ESZ5", 60),
        ("2025-12-18", RTH, "ESH6", 30),
        ("2025-12-18", RTH, "ESM6", 10),
        ("2025-12-19", RTH, "ESZ5", 50),
        ("2025-12-19", RTH, "ESH6", 50),
    )

    assert ContractSelector(lake).front_month("ES", "2025-12-19").dominant
    assert ContractSelector(lake, dominance=0.6).front_month("ES", "2025-12-19").dominant
    weak = ContractSelector(lake, dominance=0.61).front_month("ES", "2025-12-19")
    assert (weak.contract, weak.dominant) == ("ESZ5", False)
    equal = ContractSelector(lake).front_month("ES", "2025-12-22")
    assert (equal.contract, equal.share, equal.dominant) == ("ESH6", 0.5, True)  # of equals the first by name


def test_what_two_captures_deliver_counts_once_and_what_one_repeats_counts_twice(lake):
    record(
        ("2025-12-18", RTH, "ESZ5", 10),
        ("2025-12-18", RTH, "ESZ5", 10),  # the same again, in one capture: two trades
        ("2025-12-18", RTH, "ESH6", 15),
    )
    record(("2025-12-18", RTH, "ESH6", 15), ("2025-12-18", RTH, "ESZ5", 10))

    assert ContractSelector(lake).front_month("ES", "2025-12-19").volumes == (("ESZ5", 20), ("ESH6", 15))


def test_front_months_are_those_of_the_lakes_dates_in_a_span_with_both_ends(lake):
    record_roll()
    selector = ContractSelector(lake)

    found = selector.front_months("ES", "2025-12-19", "2025-12-22")
    assert [(choice.date, choice.contract) for choice in found] == [("2025-12-19", "ESZ5"), ("2025-12-22", "ESH6")]
    assert found == [selector.front_month("ES", choice.date) for choice in found]
    closes = selector.front_months("ES", "2025-12-01", "2025-12-31", as_of="close")
    assert [choice.contract for choice in closes] == ["ESZ5", "ESH6", "ESH6"]


def test_no_more_than_ten_dates_are_read_for_a_choice(lake):
    days = [f"2025-12-{day:02}" for day in (2, 3, 4, 5, 8, 9, 10, 11, 12, 15, 16)]
    record(("2025-12-01", RTH, "ESZ5", 10), *[(day, NIGHT, "ESH6", 10) for day in days])
    selector = ContractSelector(lake)

    assert selector.front_month("ES", "2025-12-15").evidence_date == "2025-12-01"
    assert selector.front_month("ES", "2025-12-16").evidence_date == "2025-12-16"


def test_trades_can_be_read_from_another_tier(lake):
    class Silver:
        tier = "silver"

        def dates(self, root):
            return ["2025-12-18"]

        def of(self, root, date):
            stamp = ns("2025-12-18", RTH)
            rows = {"ts_event_ns": [stamp, stamp], "contract": ["ESZ5", "ESZ5"], "size": [3, 3]}
            return duckdb.from_arrow(pa.table(rows)) if date in self.dates(root) else None

    choice = ContractSelector(lake, trades=Silver()).front_month("ES", "2025-12-19")

    assert (choice.contract, choice.volumes, choice.tier) == ("ESZ5", (("ESZ5", 6),), "silver")


def test_what_is_not_usable_is_refused(lake):
    with pytest.raises(UsageError, match="is no share"):
        ContractSelector(lake, dominance=50)
    with pytest.raises(UsageError, match="is not known"):
        ContractSelector(lake).front_month("ES", "2025-12-19", as_of="noon")
    with pytest.raises(UsageError, match="is not a date"):
        ContractSelector(lake).front_month("ES", "19.12.2025")


def contracts_read(frame):
    return {date: set(group["contract"]) for date, group in frame.groupby("date")}


def test_the_reader_gives_a_date_its_own_front_month_by_regular_hours(lake):
    record_roll()
    record(("2025-12-21", "23:30:00", "ESH6", 1), ("2025-12-21", "23:30:00", "ESZ5-ESH6", 5))

    assert contracts_read(BronzeReader().read_futures_trades()) == {
        "2025-12-18": {"ESZ5"},
        "2025-12-19": {"ESH6"},
        "2025-12-21": {"ESH6"},
        "2025-12-22": {"ESH6"},
    }
    roll = BronzeReader().read_futures_trades(date="2025-12-19")
    assert contracts_read(roll) == {"2025-12-19": {"ESH6"}}


def test_books_of_a_date_without_trades_take_the_last_choice_and_else_keep_every_outright(lake):
    books = delivered(BOOKS, 3)
    contract = books.schema.get_field_index("contract")
    names = pa.array(["ESZ5", "ESH6", "ESZ5-ESH6"])
    asyncio.run(write("futures.mbp10", books.set_column(contract, books.schema.field(contract), names)))

    assert contracts_read(BronzeReader().read_futures_mbp10()) == {"2025-12-22": {"ESZ5", "ESH6"}}
    record(("2025-12-19", RTH, "ESH6", 1))
    assert contracts_read(BronzeReader().read_futures_mbp10()) == {"2025-12-22": {"ESH6"}}
