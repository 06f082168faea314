"""A DBN file of each kind of record goes from the daemon's file source into Bronze."""

import asyncio
import json
from pathlib import Path

import pytest

from spymaster import settings
from spymaster.cli.screen import print_summary, summarize
from spymaster.daemon import Daemon
from spymaster.journal import Journal
from spymaster.proof.verify import verify
from tests.normalize.dbn_bytes import (
    BBO_1S,
    CBBO_1M,
    DAY,
    MBP1,
    STATISTICS,
    STATUS,
    T0,
    UNDEF_U64,
    es_header,
    header_of,
    quote,
    record,
)
from tests.stored import stored

CROSSED = 2_000_000_000


def test_a_file_of_each_kind_is_recorded_into_bronze_and_what_is_odd_or_left_out_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"ESZ5 C6900": [(DAY, DAY.replace(day=17), 1)]}
    spy = {"SPY   251216C00680000": [(DAY, DAY.replace(day=17), 1)]}
    files = {
        "changes": header_of(schema="mbp-1", mappings=call) + quote() + quote(MBP1, bid=CROSSED) * 2,
        "futures": es_header("bbo-1s") + quote(BBO_1S) * 3,
        "samples": header_of("OPRA.PILLAR", "cbbo-1m", mappings=spy) + quote(CBBO_1M, ts_event=UNDEF_U64, ts_recv=T0),
        "statistics": es_header("statistics") + record(STATISTICS, stat_type=9, quantity=7) * 2,
        "status": es_header("status") + record(STATUS, action=8, is_trading=b"N"),
    }
    (tmp_path / "raw").mkdir()
    for name, data in files.items():
        (tmp_path / "raw" / f"{name}.dbn").write_bytes(data)
    said: list[str] = []
    told: list[str] = []
    own = settings.load(data_root=tmp_path / "lake", wal_root=tmp_path / "wal")

    async def run() -> Daemon:
        daemon = Daemon(own, [f"dbn:{tmp_path / 'raw'}"], 0, notify=said.append, journal=kept)
        await daemon.run()
        return daemon

    kept = Journal(told.append, "json")
    daemon = asyncio.run(run())
    kept.close()

    ended = {summary.origin.rpartition("/")[2].removesuffix(".dbn"): summary for summary in daemon.summaries}
    assert {name: (summary.complete, summary.rows) for name, summary in ended.items()} == {
        "changes": (True, {"options.quotes": 3}),
        "futures": (True, {}),
        "samples": (True, {"options.quotes": 1}),
        "statistics": (True, {"reference.statistics": 2}),
        "status": (True, {"reference.status": 1}),
    }
    assert {name: summary.odd for name, summary in ended.items() if summary.odd} == {"changes": {"crossed quote": 2}}
    assert {name: summary.ignored for name, summary in ended.items() if summary.ignored} == {
        "futures": {"bbo-1s of futures": 3}
    }
    (line,) = said
    assert "futures.dbn: bbo-1s of futures are not recorded, only counted" in line
    quotes = stored(tmp_path / "lake", "options.quotes")
    assert sorted((row["underlying"], row["sample_s"], row["bid_px"]) for row in quotes) == [
        ("ES", 0, 1.25), ("ES", 0, 2.0), ("ES", 0, 2.0), ("SPY", 60, 1.25),
    ]  # fmt: skip
    assert [row["quantity"] for row in stored(tmp_path / "lake", "reference.statistics")] == [7, 7]
    assert [(row["action"], row["is_trading"]) for row in stored(tmp_path / "lake", "reference.status")] == [
        ("halt", False)
    ]
    assert verify(tmp_path / "wal", tmp_path / "lake").findings == []

    events = list(map(json.loads, told))
    assert [event["text"] for event in events if event["event"] == "capture.warned"] == said
    ends = [event for event in events if event["event"] == "capture.ended"]
    assert [event["odd"] for event in ends if event["odd"]] == [{"crossed quote": 2}]
    print_summary(summarize(daemon, 1.0))
    printed = capsys.readouterr().out
    assert "  2 odd rows are recorded as they came: crossed quote.\n" in printed
    assert "  3 bbo-1s of futures records are of a kind that is not recorded.\n" in printed
