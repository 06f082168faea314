"""A day in a box: the vendors' files of the market, with the events that a live session would have carried."""

import csv
import gzip
import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import databento
import pytest

from spymaster.errors import UsageError
from spymaster.feeds.dbn_files import DbnFileFeed
from spymaster.simulation.day import SimulatedDay, write_day
from tests.feeding import opened
from tests.sim_recording import MBP1, MBP10, NOON, STATISTIC, STATUS, TRADE, Recorded

DAY = date(2025, 12, 2)
MINUTES = (17 * 60, 17 * 60 + 1)
MS = 1_000_000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> SimulatedDay:
    return write_day(DAY, tmp_path_factory.mktemp("box") / "day", 3, 300, ("sweeps",), minutes=MINUTES)


@pytest.fixture(scope="module")
def live() -> Recorded:
    return Recorded(3, 300, 60, plant=("sweeps",))


def rows(day: SimulatedDay, folder: str) -> list[dict[str, str]]:
    with gzip.open(day.out / folder / "2025-12-02.csv.gz", "rt") as text:
        return list(csv.DictReader(text))


def manifest(day: SimulatedDay) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((day.out / "manifest.json").read_text())
    return read


def test_the_manifest_names_every_file_with_its_rows_and_hash(day: SimulatedDay) -> None:
    files = {entry["path"]: entry for entry in manifest(day)["files"]}

    on_disk = {path.relative_to(day.out).as_posix() for path in day.out.rglob("*") if path.is_file()}
    assert on_disk == {*files, "manifest.json"}
    for name, entry in files.items():
        data = (day.out / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert files["us_stocks_sip/quotes_v1/2025-12-02.csv.gz"]["rows"] == len(rows(day, "us_stocks_sip/quotes_v1"))
    assert files["truth.jsonl"]["rows"] == (day.out / "truth.jsonl").read_bytes().count(b"\n")
    assert day.truths == 3


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # the vendor's client, with pandas 3.1
def test_the_vendors_store_reads_every_record_and_names_it(day: SimulatedDay, live: Recorded) -> None:
    for schema, kind in (
        ("trades", TRADE), ("mbp-10", MBP10), ("mbp-1", MBP1), ("statistics", STATISTIC), ("status", STATUS),
    ):  # fmt: skip
        store = databento.DBNStore.from_bytes((day.out / f"glbx-mdp3-20251202.{schema}.dbn.zst").read_bytes())
        entry = next(one for one in manifest(day)["files"] if f".{schema}." in one["path"])
        read, sent = store.to_ndarray(), live.records(kind)
        assert str(store.schema) == schema
        assert len(read) == len(sent) == entry["rows"] > 400
        assert (read == sent).all()
        assert store.to_df()["symbol"].notna().all()


def test_our_own_reader_takes_the_dbn_files(day: SimulatedDay) -> None:
    for schema in ("trades", "mbp-10", "definition"):
        feed = DbnFileFeed(str(day.out / f"glbx-mdp3-20251202.{schema}.dbn.zst"))
        assert opened(feed)[0].info.content_sha256


def test_flat_files_hold_the_events_of_the_frames_with_their_nanoseconds(day: SimulatedDay, live: Recorded) -> None:
    for folder, channel, names in (
        ("us_stocks_sip/trades_v1", "T.SPY", {"price": "p", "size": "s", "exchange": "x", "sequence_number": "q"}),
        (
            "us_stocks_sip/quotes_v1",
            "Q.SPY",
            {"bid_price": "bp", "ask_price": "ap", "ask_size": "as"},
        ),
        ("us_options_opra/trades_v1", "T.O:SPY", {"price": "p", "size": "s", "exchange": "x"}),
        (
            "us_options_opra/quotes_v1",
            "Q.O:SPY",
            {
                "bid_price": "bp",
                "ask_price": "ap",
                "bid_size": "bs",
                "ask_size": "as",
                "bid_exchange": "bx",
                "ask_exchange": "ax",
                "sequence_number": "q",
            },
        ),
    ):
        read, sent = rows(day, folder), live.events(channel)
        assert len(read) == len(sent) > 1_000
        for row, event in zip(read, sent, strict=True):
            assert row["ticker"] == event["sym"]
            assert int(row["sip_timestamp"]) // MS == event["t"]
            for name, field in names.items():
                assert float(row[name]) == event[field]
        assert any(int(row["sip_timestamp"]) % MS for row in read)


def test_prints_keep_id_conditions_and_the_facilitys_time(day: SimulatedDay, live: Recorded) -> None:
    for row, event in zip(rows(day, "us_stocks_sip/trades_v1"), live.events("T.SPY"), strict=True):
        assert row["id"] == event["i"]
        assert row["conditions"] == ",".join(map(str, event.get("c", [])))
        assert row["trf_id"] == str(event.get("trfi", 0))
        assert int(row["participant_timestamp"]) < int(row["sip_timestamp"])


def test_the_truth_is_json_lines_in_order_of_time(day: SimulatedDay) -> None:
    truths = [json.loads(line) for line in (day.out / "truth.jsonl").read_text().splitlines()]

    truths = [truth for truth in truths if truth["kind"] != "option_trade"]
    assert [truth["kind"] for truth in truths] == ["sweep"] * 3
    assert NOON < truths[0]["begin_ns"] < truths[1]["begin_ns"] < truths[2]["begin_ns"]


def test_the_same_day_is_written_the_same_to_the_byte(day: SimulatedDay, tmp_path: Path) -> None:
    again = write_day(DAY, tmp_path / "again", 3, 300, ("sweeps",), minutes=MINUTES)

    assert again.files == day.files


def test_strength_and_price_are_the_days_too_and_stand_in_its_manifest(tmp_path: Path) -> None:
    written = write_day(DAY, tmp_path / "calm", 3, 300, ("sweeps",), minutes=MINUTES, strength=0.5, price="calm")
    truths = [json.loads(line) for line in (written.out / "truth.jsonl").read_text().splitlines()]
    live = Recorded(3, 300, 60, plant=("sweeps",), strength=0.5, price="calm")

    assert (manifest(written)["strength"], manifest(written)["price"]) == (0.5, "calm")
    assert {truth["strength"] for truth in truths if truth["kind"] == "sweep"} == {3}
    store = databento.DBNStore.from_bytes((written.out / "glbx-mdp3-20251202.mbp-10.dbn.zst").read_bytes())
    assert (store.to_ndarray() == live.records(MBP10)).all()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UsageError, match="Next: "):
        write_day(DAY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("day", [date(1999, 12, 31), date(1890, 1, 1), date(2100, 1, 1), date.max])
def test_a_day_that_the_market_does_not_reach_is_refused(day: date, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Next: "):
        write_day(day, tmp_path / "day", minutes=MINUTES)
    assert not (tmp_path / "day").exists()
