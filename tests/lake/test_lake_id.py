"""A log is one lake's: both carry its id, however either got lost, and another lake's log is refused in one line."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from spymaster import BronzeReader, BronzeWriter, WALManager, durable
from spymaster.errors import LayoutError, OtherLakeError
from spymaster.lake import lake_id
from spymaster.lake.locks import bronze_lock, wal_lock, writer_locks
from spymaster.proof.verify import verify
from spymaster.query.lake import Lake
from spymaster.query.status import status
from tests.command_line import clean_environment, spymaster

TRADE = {"ts_event_ns": 1_766_404_800_000_000_000, "symbol": "SPY", "price": 1.0}


@pytest.fixture
def folders(tmp_path):
    for name in ("wal", "a", "b"):
        (tmp_path / name).mkdir()
    return tmp_path / "wal", tmp_path / "a", tmp_path / "b"


def said(folder: Path) -> dict:
    return json.loads((folder / "lake.json").read_bytes())


def recorded_in(lake: Path) -> None:
    """Let a lake look as one of before: rows, and no id."""
    (lake / "bronze" / "futures").mkdir(parents=True)


def test_a_new_log_and_a_new_lake_carry_one_id_and_the_log_says_where_its_lake_is(folders):
    wal, a, _ = folders

    lake_id.join(wal, a)

    assert said(a) == {"lake": said(wal)["lake"]}
    assert said(wal)["data_root"] == str(a)
    assert len(said(a)["lake"]) == 16
    before = (wal / "lake.json").stat().st_mtime_ns
    lake_id.join(wal, a)
    assert (wal / "lake.json").stat().st_mtime_ns == before  # nothing to say


@pytest.mark.parametrize("before", [lambda lake: None, recorded_in])
@pytest.mark.parametrize("lost", ["wal", "a"])
def test_what_was_lost_or_not_yet_written_of_the_two_comes_back_with_the_id_of_the_other(folders, lost, before):
    wal, a, _ = folders
    before(a)
    lake_id.join(wal, a)
    own = said(a)["lake"]
    gone = {"wal": wal, "a": a}[lost]
    shutil.rmtree(gone)  # a log after a clean stop; a lake while its log remains
    gone.mkdir()
    before(a) if lost == "a" else None

    lake_id.require_own_log(wal, a)
    lake_id.join(wal, a)

    assert said(wal)["lake"] == said(a)["lake"] == own


def test_the_log_of_another_lake_is_refused_in_one_line_and_left_as_it_is(folders):
    wal, a, b = folders
    lake_id.join(wal, a)
    (b / "wal").mkdir()
    lake_id.join(b / "wal", b)
    mine = (wal / "lake.json").read_bytes()

    for refuse in (lake_id.join, lake_id.require_own_log):
        with pytest.raises(OtherLakeError, match=f"{wal} is the log of another lake, which was at {a}, not") as refused:
            refuse(wal, b)
        assert "\n" not in str(refused.value)
        assert "Nothing was changed. Next:" in str(refused.value)
    assert (wal / "lake.json").read_bytes() == mine

    (wal / "lake.json").unlink()  # as the refusal says, for whoever knows better
    lake_id.join(wal, b)
    assert said(wal)["lake"] == said(b)["lake"]


def test_a_new_lake_does_not_take_the_log_of_a_lake_that_still_lies_where_the_log_says(folders):
    wal, a, b = folders
    lake_id.join(wal, a)

    with pytest.raises(OtherLakeError):
        lake_id.join(wal, b)
    assert not (b / "lake.json").exists()

    a.rename(a.with_name("moved"))  # now nothing says that b is not it
    lake_id.join(wal, b)
    assert said(wal) == {"lake": said(b)["lake"], "data_root": str(b)}


def test_a_lake_that_moved_is_known_by_its_id_and_the_log_says_so(folders):
    wal, a, b = folders
    lake_id.join(wal, a)
    b.rmdir()
    a.rename(b)

    lake_id.join(wal, b)

    assert said(wal) == {"lake": said(b)["lake"], "data_root": str(b)}


def test_a_log_whose_lake_could_not_be_asked_says_where_it_is_and_takes_its_id_later(folders):
    wal, a, b = folders

    lake_id.join(wal, a, lake_locked=False)

    assert said(wal) == {"data_root": str(a)}
    assert not (a / "lake.json").exists()
    (a / "lake.json").write_text('{"lake": "0123456789abcdef"}')  # it had one all the time
    with pytest.raises(OtherLakeError):
        lake_id.join(wal, b)
    lake_id.join(wal, a)
    assert said(wal)["lake"] == "0123456789abcdef"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"lake": "me"}', '{"lake": 7}', '{"data_root": 7}'])
@pytest.mark.parametrize("which", ["wal", "lake"])
def test_a_lake_json_that_does_not_read_is_named_in_one_line(folders, which, text):
    wal, a, _ = folders
    file = {"wal": wal, "lake": a}[which] / "lake.json"
    file.write_text(text)

    with pytest.raises(LayoutError, match="does not read") as refused:
        lake_id.join(wal, a)
    assert str(file) in str(refused.value)
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("call", "number"),
    [("write_fully", 1), ("write_fully", 2), ("sync", 1), ("sync", 2), ("link", 1), ("replace", 1),
     ("sync_directory", 1), ("sync_directory", 2)],
)  # fmt: skip
def test_a_disk_that_refuses_once_or_a_kill_amid_it_keeps_nobody_out(folders, monkeypatch, call, number):
    wal, a, _ = folders
    calls = []

    def refusing(*arguments):
        calls.append(call)
        if len(calls) == number:
            raise OSError(5, "refused")
        return real(*arguments)

    real = getattr(durable, call)
    durable.make_directories(a)  # its own syncs are none of these
    monkeypatch.setattr(durable, call, refusing)
    with pytest.raises(OSError, match="refused"):
        lake_id.join(wal, a)
    monkeypatch.setattr(durable, call, real)

    lake_id.join(wal, a)

    assert said(wal)["lake"] == said(a)["lake"]


def write(lake: Path) -> None:
    async def one_trade():
        writer = BronzeWriter(data_root=str(lake))
        await writer.write_stock_trade(TRADE)
        await writer.stop()

    asyncio.run(one_trade())


def test_two_lakes_of_one_process_or_one_folder_stay_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAL_ROOT", raising=False)

    async def both():
        writers = [BronzeWriter(data_root=name) for name in "ab"]
        for _ in range(2):
            for writer in writers:
                await writer.write_stock_trade(TRADE)
        for writer in writers:
            await writer.stop()

    asyncio.run(both())
    for name in "aba":
        write(Path(name))

    for name, rows in (("a", 4), ("b", 3)):
        assert len(BronzeReader(data_root=name).read("stocks.trades", "SPY")) == rows
        assert len(WALManager(data_root=name).recover_all()) == 0
        for found in (verify(Path(name, "wal"), Path(name)), verify(Path(tmp_path, name, "wal"), tmp_path / name)):
            assert found.findings == []


def test_whoever_reads_or_writes_log_and_lake_refuses_the_log_of_another_lake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wal, a, b = (tmp_path / name for name in ("wal", "a", "b"))
    monkeypatch.setenv("WAL_ROOT", str(wal))
    write(a)
    monkeypatch.setenv("WAL_ROOT", str(tmp_path / "another"))
    write(b)
    monkeypatch.setenv("WAL_ROOT", str(wal))

    for use in (
        lambda: write(b),
        lambda: WALManager(data_root=b).recover_all(),
        lambda: verify(wal, b),
        lambda: Lake(b, wal),
        lambda: writer_locks(wal, b).__enter__(),
    ):
        with pytest.raises(OtherLakeError):
            use()
        with wal_lock(wal), bronze_lock(b):
            pass  # whoever refused let the locks go
    assert any("is the log of another lake" in line for line in status(wal, b)["alarms"])
    assert verify(wal, a).findings == []

    environment = clean_environment(DATA_ROOT=str(b), WAL_ROOT=str(wal))
    for command, code in (
        (("run", "--duration", "1"), 2),
        (("recover",), 4),
        (("verify",), 2),
        (("sql", "from stocks_trades"), 2),
        (("archive", "--before", "2025-12-22"), 2),
        (("catalog", "rebuild"), 2),
    ):
        done = spymaster(*command, environment=environment, folder=tmp_path)
        assert done.returncode == code, done
        assert "is the log of another lake" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done
    assert spymaster("compact", "--all", environment=environment, folder=tmp_path).returncode == 0  # needs no log
