"""Files whose header names no contract: named by the lake's definitions of their dates, or refused before a row."""

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from spymaster import settings
from spymaster.daemon import Daemon
from spymaster.events.captures import CaptureSummary
from spymaster.query.lake import connect
from tests.normalize.dbn_bytes import BBO_1S, DAY, DAY_NS, T0, definition, header_of, mapping, quote, trade

TOMORROW = DAY + dt.timedelta(1)
BARE: dict[str, Any] = {"stype_in": "instrument_id", "symbols": ["7"]}
CONTINUOUS: dict[str, Any] = {
    "stype_in": "continuous", "symbols": ["ES.c.0"], "mappings": {"ES.c.0": [(DAY, DAY + dt.timedelta(2), 7)]},
}  # fmt: skip


def backfill(folder: Path, name: str, data: bytes) -> tuple[CaptureSummary, list[str]]:
    path = folder / name
    path.write_bytes(data)
    said: list[str] = []

    async def run() -> list[CaptureSummary]:
        own = settings.load(data_root=str(folder / "lake"), wal_root=str(folder / "wal"))
        daemon = Daemon(own, [f"dbn:{path}"], speed=0, notify=said.append)
        await daemon.run()
        return list(daemon.summaries)

    (summary,) = asyncio.run(run())
    return summary, said


def rows(folder: Path, query: str) -> list[Any]:
    with connect(folder / "lake", folder / "wal") as lake:
        found: list[Any] = lake.sql(query).fetchall()
        return found


def define(folder: Path) -> None:
    """On one date id 7 is a future, on the next an option of a root that no table has; id 8 is another day's."""
    said = definition("ESZ5", instrument_id=7, ts_recv=T0, ts_event=T0 - 30 * DAY_NS)
    fields = {"underlying": b"ESH6", "strike_price": 6_900_000_000_000, "asset": b"XYZ"}
    said += definition("XYZF6 C6900", kind=b"C", instrument_id=7, ts_recv=T0 + DAY_NS, **fields)
    said += definition("NQZ5", asset=b"NQ", instrument_id=8, ts_recv=T0 + DAY_NS)
    spans = {"ESZ5": [(DAY, TOMORROW, 7)]}
    assert backfill(folder, "d.dbn", header_of(schema="definition", mappings=spans) + said)[0].complete


@pytest.mark.parametrize("header", [BARE, CONTINUOUS])
def test_a_file_without_contracts_gets_them_from_the_definitions_of_its_dates(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    define(tmp_path)
    data = b"".join(trade(instrument_id=7, ts_event=T0 + day * DAY_NS + 5) for day in (0, 1))
    summary, _ = backfill(tmp_path, "t.dbn", header_of(**header) + data)

    assert summary.complete, summary.error
    assert summary.unmapped == 0
    assert rows(tmp_path, "select symbol, contract from futures_trades") == [("ES", "ESZ5")]
    query = 'select underlying, contract, strike, "right" from options_trades'
    assert rows(tmp_path, query) == [("ES", "XYZF6 C6900", 6900.0, "C")]


def test_definitions_in_the_lake_tell_quotes_of_options_from_those_of_futures(tmp_path: Path) -> None:
    define(tmp_path)
    data = b"".join(quote(BBO_1S, instrument_id=7, ts_event=T0 + day * DAY_NS) for day in (0, 1, 1))
    summary, said = backfill(tmp_path, "q.dbn", header_of(schema="bbo-1s", **BARE) + data)

    assert (summary.complete, summary.rows) == (True, {"options.quotes": 2})
    assert summary.ignored == {"bbo-1s of futures": 1}
    assert [line.partition(" are not recorded")[0][-17:] for line in said] == ["bbo-1s of futures"]
    query = 'select distinct underlying, contract, strike, "right" from options_quotes'
    assert rows(tmp_path, query) == [("ES", "XYZF6 C6900", 6900.0, "C")]


def test_a_file_of_bare_ids_that_nothing_names_is_refused_before_its_first_row(tmp_path: Path) -> None:
    data = trade(instrument_id=7)
    for header in (BARE, BARE | {"mappings": {"7": [(DAY, TOMORROW, 7)]}}):
        summary, _ = backfill(tmp_path, "t.dbn", header_of(**header) + data)

        assert summary.rows == {}
        assert not summary.complete
        line = str(summary.error)
        assert "asks for bare ids (7)" in line
        assert "definitions of GLBX.MDP3 for these ids from 2025-12-16" in line
        assert "\n" not in line
    assert rows(tmp_path, "select count(*) from futures_trades") == [(0,)]


def test_definitions_of_another_day_or_dataset_name_nothing(tmp_path: Path) -> None:
    said = definition("ESZ5", instrument_id=7, ts_recv=T0 - DAY_NS) + definition("ESH6", instrument_id=8)
    backfill(tmp_path, "d.dbn", header_of(schema="definition") + said)
    summary, _ = backfill(tmp_path, "t.dbn", header_of(**BARE, mappings={"7": [(DAY, TOMORROW, 7)]}) + trade())

    assert "asks for bare ids" in str(summary.error)


def test_a_continuous_file_is_recorded_without_definitions_by_its_root(tmp_path: Path) -> None:
    summary, _ = backfill(tmp_path, "t.dbn", header_of(**CONTINUOUS) + trade(instrument_id=7))

    assert summary.complete
    assert rows(tmp_path, "select symbol, contract, instrument_id from futures_trades") == [("ES", None, 7)]


def test_bare_ids_that_the_stream_names_are_recorded(tmp_path: Path) -> None:
    data = mapping(7, "ESZ5", asked="7") + trade(instrument_id=7)
    summary, _ = backfill(tmp_path, "t.dbn", header_of(**BARE) + data)

    assert summary.complete, summary.error
    assert rows(tmp_path, "select symbol, contract from futures_trades") == [("ES", "ESZ5")]


def test_definitions_of_bare_ids_are_recorded_themselves(tmp_path: Path) -> None:
    summary, _ = backfill(tmp_path, "d.dbn", header_of(**BARE, schema="definition") + definition("ESZ5"))

    assert summary.rows == {"reference.instruments": 1}


def test_a_contradiction_is_told_to_whoever_watches_and_the_rows_stand(tmp_path: Path) -> None:
    day = [(DAY, TOMORROW, 1)]
    summary, said = backfill(tmp_path, "t.dbn", header_of(mappings={"ESZ5": day, "ESH6": day}) + trade() * 3)

    assert (summary.complete, summary.rows) == (True, {"futures.trades": 3})
    (line,) = said
    assert "instrument 1 is mapped to" in line
    assert "\n" not in line
