"""Why a level had its score: down to the records of the vendor's file, and by other code than the engines."""

import hashlib
from datetime import date
from functools import cache
from itertools import pairwise

import databento
import databento_dbn
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spymaster.engines.ledger import SNAP_NS
from spymaster.engines.profile import profile_named
from spymaster.errors import UsageError
from spymaster.signals import sums
from spymaster.signals.explain import explain
from spymaster.signals.feed import Roots
from spymaster.signals.moment import level_of
from spymaster.signals.past import Past
from spymaster.signals.pieces import Keys, pieces
from spymaster.simulation.day import write_day
from tests.command_line import clean_environment, spymaster
from tests.signals.recordings import BEGIN_NS, BOOKS, FRONT, SECOND, SESSION, Recording, market

SIM = profile_named("SIM")
TICK = SIM.book.tick
PLANT = ("walls", "sweeps", "vacuums", "late", "crossed")
NANOS = 1_000_000_000
OUTWARD = {"bid": -1, "ask": 1}
DTYPE = np.dtype(databento_dbn.MBP10Msg._dtypes)


# The sums of many snaps


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A recording of which no snap is on record, with rows that came late."""
    return Recording(tmp_path_factory.mktemp("recorded")).record(delivered())


@cache
def delivered():
    """Return a market's batches; each sixth of books lends its first row to the sixtieth after it: a second late."""
    batches = market(110, rate=150, plant=PLANT)
    books = [at for at, (stream, batch) in enumerate(batches) if stream == BOOKS and batch.num_rows > 1]
    found = dict(enumerate(batches))
    for lender, taker in zip(books[::6], books[60::6], strict=False):
        found[lender] = BOOKS, found[lender][1].slice(1)
        rows = found[taker][1]
        at = rows.schema.get_field_index("ts_recv_ns")
        late = batches[lender][1].slice(0, 1)
        late = late.set_column(at, late.schema.field(at), rows.column(at).slice(rows.num_rows - 1))
        found[taker] = BOOKS, pa.Table.from_batches([rows, late]).combine_chunks().to_batches()[0]
    return [one for one in found.values() if one[1].num_rows]


@pytest.fixture(scope="module")
def judged(recording):
    """Each snap of the recording as the engines have it, and what it had as it is read again."""
    past = Past(recording.data, recording.wal, SIM, SESSION)
    snaps = [snap for _, snap in past.snaps()]
    keys = Keys()
    found = pieces(Roots(recording.data, recording.wal), SIM, SESSION, FRONT, None, snaps[-1].snap_ns, keys)
    had = [
        sums.Had(
            piece.snap_ns, piece.since_ns, sums.rows_of(piece.batches.get(BOOKS.schema, []), FRONT, TICK, BEGIN_NS)
        )
        for piece in found
    ]
    return snaps, had, keys


def test_each_snap_is_read_again_with_its_rows_and_their_keys(judged):
    snaps, had, keys = judged
    told = [at for stream, batch in delivered() if stream == BOOKS for at in batch.column("ts_event_ns").to_pylist()]

    assert [one.snap_ns for one in had] == [snap.snap_ns for snap in snaps]
    rows = [row for one in had for row in one.rows]
    assert len(rows) == snaps[-1].counters.rows > 3_000
    for row in rows:
        capture, number = keys.of(BOOKS.schema, row.place)
        assert (capture, told[number]) == (7, row.ts_ns)


def test_sums_of_the_rows_alone_are_the_engines_numbers(judged):
    """Of each fifth snap that is sound, each level that has a side and lies within ten prices."""
    snaps, had, _ = judged
    checked = flowed = late = 0
    for at in range(0, len(snaps), 5):
        snap, minute, recent = snaps[at], had[max(at - 260, 0) : at + 1], had[max(at - 80, 0) : at + 1]
        bought, sold = (sum(row.size for row in sums.tape(minute, 240) if row.side == side) for side in (1, -1))
        for level in snap.levels.to_pylist():
            assert (level["tape_bought"], level["tape_sold"]) == (bought, sold)
            if level["state"] == "VOID":
                continue
            first = snap.snap_ns // SNAP_NS - 20 + 1
            zone = [
                level["zone_ticks"] + OUTWARD[level["barrier_side"]] * step
                for step in range(5)
                if level["offset_ticks"] + step < 10
            ]
            found = sums.flow(None, -1, recent, first, level["barrier_side"], zone)
            told = [sum(getattr(one, name) for one in found.changes) for name in ("added", "canceled", "filled")]
            assert told == [level[f"{name}_5s"] for name in ("added", "canceled", "filled")]
            book = found.book[level["barrier_side"]]
            assert sum(book.get(price, 0) for price in zone) == level["depth"]
            checked, flowed = checked + 1, flowed + (told[2] > 0)
        late += sum(snap.counters.late.values()) > 0
    assert checked > 200
    assert flowed > 10
    assert late > 0


def test_each_explanation_gives_the_row_again(recording, judged):
    snaps, _, _ = judged
    sound = [snap for snap in snaps if snap.void_reason is None]
    states = {}
    for snap in sound:
        for name, state in zip(*(snap.levels.column(name).to_pylist() for name in ("id", "state")), strict=True):
            states.setdefault(state, (name, snap.snap_ns))

    assert {"NEUTRAL", "VOID"} < states.keys()
    for state, (name, snap_ns) in states.items():
        document = explain(recording.data, recording.wal, SIM, name, snap_ns).document
        assert document["recomputed"] == "same"
        assert document["barrier"]["state"] == state
        assert (document["known"], document["gold"]["part"]) == ("rule of known time", None)
        assert bool(document["score"]["recomputed"]) == (state != "VOID")


def test_the_points_add_up_from_50(recording, judged):
    snaps, _, _ = judged
    at, level = next(
        (at, level)
        for at, snap in enumerate(snaps)
        for level in snap.levels.to_pylist()
        if level["points_barrier"] and abs(level["tape_imbalance"]) > 0.1
    )
    part = {"WALL": -1.0, "ABSORPTION": -0.8, "WEAK": 0.3, "CONSUMED": 0.6, "VACUUM": 1.0}[level["state"]]
    score = explain(recording.data, recording.wal, SIM, level["id"], snaps[at].snap_ns).document["score"]

    assert score["barrier"] == 50 * 0.5 * part * level["coverage"]
    assert score["tape"] == 50 * 0.35 * level["tape_imbalance"]
    assert score["raw"] == 50 + score["barrier"] + score["tape"] + score["fuel"] == level["score_raw"]
    assert score["recomputed"]["score"]["recomputed"] == level["score"]
    assert score["smooth"] == pytest.approx(score["raw"] + (score["smooth_before"] - score["raw"]) * 2**-0.25)


def test_what_the_rows_do_not_add_up_to_is_said(recording, judged, monkeypatch):
    snap = judged[0][-1]
    whole = sums.tape

    monkeypatch.setattr(sums, "tape", lambda had, window: whole(had, window)[:-1])
    document = explain(recording.data, recording.wal, SIM, snap.levels.column("id")[0].as_py(), snap.snap_ns).document

    assert document["recomputed"] == "differs"
    checks = document["tape"]["recomputed"].values()
    assert sum(check["row"] != check["recomputed"] for check in checks) == 1


# What cannot be explained


@pytest.mark.parametrize(
    ("level", "at", "line"),
    [
        ("VWAP", -3, "the first of the session is at 2025-12-01T22:59:5"),
        ("VWAP", 3_600, "the last of the session is at 2025-12-01T23:01:"),
        ("VWAP", 90_000, "have no snap of the session 2025-12-03"),
        ("ROUND_6901", 100, "'ROUND_6901' is not judged at 2025-12-01T23:01:40.000000000Z; these are, nearest first: "),
    ],
)
def test_what_is_not_there_is_refused(recording, level, at, line):
    at_ns = (BEGIN_NS + at * SECOND) if at > 0 else BEGIN_NS - 6 * SECOND
    with pytest.raises(UsageError) as refused:
        explain(recording.data, recording.wal, SIM, level, at_ns)

    assert line in str(refused.value)
    assert "Nothing was explained. Next: " in str(refused.value)


def test_within_a_pause_the_snaps_around_it_are_named(tmp_path):
    quiet = (BEGIN_NS + 70 * SECOND, BEGIN_NS + 75 * SECOND)
    rows = []
    for stream, batch in market(80):
        times = batch.column("ts_event_ns").to_numpy()
        kept = batch.filter(pa.array((times < quiet[0]) | (times >= quiet[1])))
        if kept.num_rows:
            rows.append((stream, kept))
    recording = Recording(tmp_path).record(rows)

    with pytest.raises(UsageError, match=r"as no row came: the one before is at .*23:01:09.*, the next at .*23:01:14"):
        explain(recording.data, recording.wal, SIM, "VWAP", quiet[0] + 2 * SECOND)


def test_a_level_is_named_by_its_id_or_its_price(judged):
    snap = judged[0][-1]
    asked = ("ROUND_6900", "ROUND_6900.00", "6900", "6900.0")
    found = {level_of(snap, name) for name in asked}

    assert [snap.levels.column("ids")[row].as_py()[-1:] for row in found] == [["ROUND_6900.00"]]
    for unknown in ("ROUND", "OVERNIGHT_6900", "6900.25.0", "nan", "round_6900"):
        with pytest.raises(UsageError):
            level_of(snap, unknown)


def test_the_time_is_that_of_the_snap_before(recording):
    document = explain(recording.data, recording.wal, SIM, "6900", BEGIN_NS + 100 * SECOND + 249_999_999).document

    assert document["ts_event_ns"] == BEGIN_NS + 100 * SECOND


# What a level is made of


def test_the_print_that_set_an_extreme_is_named(recording, judged):
    snaps, had, keys = judged
    document = explain(recording.data, recording.wal, SIM, "SESSION_HIGH", snaps[-1].snap_ns).document
    made = next(one for one in document["level"]["made_by"] if one["id"] == "SESSION_HIGH")
    prints = [row for one in had for row in one.rows if row.kind == sums.PRINT and row.price is not None]
    highest = max(row.price for row in prints)
    first = next(row for row in prints if row.price == highest)

    (row,) = made["rows"]
    assert document["level"]["price"] == highest * TICK == row["price"]
    assert (row["capture_id"], row["capture_seq"]) == keys.of(BOOKS.schema, first.place)
    assert row["bronze"]["part"].startswith("bronze/futures/mbp10/symbol=ES/")
    assert made["since_ns"] == next(one.snap_ns for one in had if first in one.rows)


# From the vendor's file and back


@pytest.fixture(scope="module")
def dbn(tmp_path_factory):
    """A day's file of books, what `run` made of it in the lake, and its records as the vendor's library reads them."""
    root = tmp_path_factory.mktemp("dbn")
    write_day(date(2025, 12, 2), root / "day", 3, 150, ("walls", "sweeps"), minutes=(17 * 60, 17 * 60 + 2))
    file = root / "day" / "glbx-mdp3-20251202.mbp-10.dbn.zst"
    environment = clean_environment(DATA_ROOT=str(root / "lake"), WAL_ROOT=str(root / "wal"), PROFILE="SIM")
    done = spymaster("run", "--source", f"dbn:{file}", "--speed", "0", environment=environment)
    assert done.returncode == 0, done.stderr
    return root / "lake", file, environment, databento.DBNStore.from_bytes(file.read_bytes()).to_ndarray()


@pytest.fixture(scope="module")
def gold_rows(dbn):
    """Rows of Gold that have a score, each with its part and its row in that, as pyarrow reads them."""
    found = []
    for part in sorted(dbn[0].glob("gold/levels/signals/**/*.parquet")):
        for at, row in enumerate(pq.read_table(part, partitioning=None).to_pylist()):
            if row["break_score_raw"] is not None:
                found.append((part.relative_to(dbn[0]).as_posix(), at, row))
    return found


def explained(dbn, row, *more):
    at = str(row["ts_event_ns"])
    return spymaster("explain", row["level_id"], "--at", at, "--json", *more, environment=dbn[2])


def test_a_row_of_gold_leads_to_the_records_of_the_vendors_file(dbn, gold_rows):
    """Each row that is listed is the record of its number; the file's records add up to Gold's numbers."""
    lake, file, _, records = dbn
    eaten = max(gold_rows, key=lambda one: one[2]["barrier_filled_5s"])
    pointed = next(one for one in gold_rows if one[2]["break_score_barrier"])
    for part, at, row in (eaten, pointed, gold_rows[len(gold_rows) // 2]):
        done = explained(dbn, row)
        document = done.document

        assert (done.returncode, document["recomputed"]) == (0, "same")
        assert document["gold"] == {"part": part, "row": at, "same": True, "why": None}
        (capture,) = document["captures"]
        assert capture["content_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert capture["origin"] == f"dbn:{file}"
        (seen,) = [one for one in document["seen"] if one["schema"] == "futures.mbp10"]
        listed = document["barrier"]["rows"] + document["tape"]["rows"]
        assert listed
        parts = {name: pq.read_table(lake / name, partitioning=None) for name in {r["bronze"]["part"] for r in listed}}
        for found in listed:
            require_record(found, records[found["capture_seq"]], parts[found["bronze"]["part"]])
            assert found["capture_id"] == capture["capture_id"] == seen["capture_id"]
            assert found["capture_seq"] <= seen["last_seq"]
        require_sums(document, row, records[: seen["last_seq"] + 1])


def require_record(found, record, part):
    """Assert that a row is this record of the file, and stands where in Bronze it is said to."""
    assert found["ts_event_ns"] == record["ts_event"]
    assert found["bronze"]["seq"] == record["sequence"]
    side = found.get("side")
    if found["what"] == "print":
        assert record["action"] == b"T"
        assert round(found["price"] * NANOS) == record["price"]
        assert found.get("size", found.get("filled")) == record["size"]
        assert (
            record["side"]
            == {1: b"B", -1: b"A", 0: b"N", None: {"ask": b"B", "bid": b"A"}.get(side)}[found.get("aggressor")]
        )
    else:
        assert found["after"] == size_at(record, side, found["price"])
    stored = part.slice(found["bronze"]["row"], 1)
    names = ("capture_id", "capture_seq", "ts_event_ns", "contract")
    assert stored.select(names).to_pylist() == [{**{name: found[name] for name in names[:3]}, "contract": "ESZ5"}]


def size_at(record, side, price):
    wanted = round(price * NANOS)
    return next((int(record[f"{side}_sz_{at:02}"]) for at in range(10) if record[f"{side}_px_{at:02}"] == wanted), 0)


def require_sums(document, row, records):
    """Assert Gold's numbers by the file's records up to the snap's position."""
    front = records[records["instrument_id"] == records[document["tape"]["rows"][0]["capture_seq"]]["instrument_id"]]
    front = front[front["ts_event"] <= row["ts_event_ns"]]
    minute = front[(front["ts_event"] > row["ts_event_ns"] - 60 * SECOND) & (front["action"] == b"T")]
    assert row["tape_bought"] == minute[minute["side"] == b"B"]["size"].sum()
    assert row["tape_sold"] == minute[minute["side"] == b"A"]["size"].sum()

    recent = front["ts_event"] > row["ts_event_ns"] - 5 * SECOND
    last = (front["flags"] & 128 != 0) & (front["action"] != b"T")
    before, inside = front[~recent & last][-1:], front[recent & last]
    books, side = last_of_each_time([*before, *inside]), row["barrier_side"]
    prints = front[recent & (front["action"] == b"T") & (front["side"] == {"ask": b"B", "bid": b"A"}[side])]
    added = canceled = filled = 0
    for price in document["barrier"]["zone"]:
        of = prints[prints["price"] == round(price * NANOS)]
        filled += of["size"].sum()
        for old, new in pairwise(books):
            if not (shows(old, side, price) and shows(new, side, price)):
                continue
            within = of[(of["ts_event"] > old["ts_event"]) & (of["ts_event"] <= new["ts_event"])]
            net = size_at(new, side, price) - size_at(old, side, price) + int(within["size"].sum())
            added, canceled = added + max(net, 0), canceled + max(-net, 0)
    assert (row["barrier_filled_5s"], row["barrier_depth"]) == (
        filled,
        sum(size_at(books[-1], side, price) for price in document["barrier"]["zone"]),
    )
    assert (row["barrier_added_5s"], row["barrier_canceled_5s"]) == (added, canceled)


def last_of_each_time(records):
    return list({int(record["ts_event"]): record for record in records}.values())


def shows(record, side, price):
    """Whether a book says how much stands at a price: up to its tenth, or to no end where it has fewer."""
    farthest = int(record[f"{side}_px_09"])
    return farthest == databento_dbn.UNDEF_PRICE or round(price * NANOS) * OUTWARD[side] <= farthest * OUTWARD[side]


def test_the_command_says_it_in_words_and_by_its_exit_code(dbn, gold_rows, monkeypatch):
    part, at, row = gold_rows[-1]
    asked = ("explain", row["level_id"], "--at", str(row["ts_event_ns"]))
    done = spymaster(*asked, environment=dbn[2])

    assert done.returncode == 0
    assert f"Gold: {part} row {at}, the same\nworked again from the rows: same\n" in done.stdout
    whole = sums.tape
    monkeypatch.setattr(sums, "tape", lambda had, window: whole(had, window)[:-1])
    assert spymaster(*asked, environment=dbn[2]).returncode == 1
    assert spymaster("explain", "VWAP", "--at", "noon", environment=dbn[2]).returncode == 2
    assert "is no picture" in spymaster(*asked, "--plot", "x.jpg", environment=dbn[2]).stderr


def test_option_prints_add_up_to_a_levels_fuel(dbn, tmp_path):
    """Of the same day backfilled with its trades, of which no snap is on record."""
    roots = {"DATA_ROOT": str(tmp_path / "lake"), "WAL_ROOT": str(tmp_path / "wal")}
    done = spymaster("backfill", f"dbn:{dbn[1].parent}/*.dbn.zst", environment={**dbn[2], **roots})
    assert done.returncode == 0, done.stderr
    document = explain(tmp_path / "lake", tmp_path / "wal", SIM, "6900", 1_764_694_910 * SECOND).document
    fuel = document["fuel"]

    assert document["recomputed"] == "same"
    assert len(fuel["rows"]) == fuel["counts"]["prints"] > 10
    weights = [(row["customer"], row["gamma"] * row["size"]) for row in fuel["rows"]]
    net = sum(side * weight for side, weight in weights) / sum(weight for _, weight in weights)
    assert fuel["recomputed"]["fuel_net"]["row"] == pytest.approx(net)
    assert {row["bronze"]["part"].split("/")[1] for row in fuel["rows"]} == {"options"}
