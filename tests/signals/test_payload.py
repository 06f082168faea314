"""`levels.signals` as rows and as JSON: each is the other, exactly; the schema in docs/ says what comes."""

import copy
import json
import math
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docs import make_reference, signals_schema
from spymaster.clock import NS_PER_SECOND
from spymaster.engines import score
from spymaster.engines.snap import SIGNALS
from spymaster.errors import UsageError
from spymaster.lake.gold import FROM, GOLD, OF_SNAP
from spymaster.signals import payload
from spymaster.signals.sight import Sight
from tests.json_schema import misfits
from tests.signals.snaps import gold, snaps

SCHEMA = json.loads((make_reference.HERE / signals_schema.NAME).read_text())
SEED = {"ts": 1734470400123, "es": {"spot": 6845.25, "bid": 6845.0, "ask": 6845.5}, "levels": []}
LEVEL = {"id": "VWAP", "price": 6845.0, "signal": "BREAK", "barrier": {"state": "WALL"}}


def as_text(rows):
    return json.dumps(payload.document(rows), allow_nan=False)


def all_rows():
    return pa.Table.from_batches(gold()).to_pandas()


# What comes


def test_every_column_of_the_engines_is_in_gold_once_under_the_name_of_its_engine():
    assert sorted(FROM.values()) == sorted(SIGNALS.names)
    assert len(set(GOLD.names)) == len(GOLD.names)
    for name, source in FROM.items():
        assert GOLD.field(name).type == SIGNALS.field(source).type
        assert GOLD.field(name).metadata[b"meaning"]
    of = {"depth": "barrier_depth", "sweep_contracts": "tape_sweep_contracts", "gamma_flip": "fuel_gamma_flip",
          "runway_quality": "runway_quality", "price": "level_price", "score": "break_score_smooth"}  # fmt: skip
    assert {source: FROM[name] for source, name in of.items()} == {source: source for source in of}


def test_a_row_has_what_the_engines_put_out():
    for snap in snaps()[::17]:
        levels = snap.levels
        rows = payload.rows(snap, levels, "ES", "SIM")
        rows.validate(full=True)
        assert all(rows.column(name).equals(levels.column(source)) for name, source in FROM.items())
        assert set(rows.column("underlying").to_pylist()) <= {"ES"}
        assert set(rows.column("session").to_pylist()) <= {snap.session}
        assert set(rows.column("age_ns").to_pylist()) <= {snap.age_ns}


def test_what_a_model_will_say_is_there_and_null():
    for rows in gold()[::40]:
        for name in ("p_break", "p_reject", "p_neither", "p_horizon_s", "model_id", "similar", "model_note"):
            assert rows.column(name).null_count == rows.num_rows


def test_the_points_of_the_components_add_up_from_50():
    rows = all_rows().dropna(subset=["break_score_raw"])
    points = rows[["break_score_barrier", "break_score_tape", "break_score_fuel"]]

    assert len(rows) > 500
    assert (points != 0).any().sum() >= 2
    assert np.allclose(score.NO_EVIDENCE + points.sum(axis=1), rows["break_score_raw"], rtol=0, atol=1e-9)


def test_no_snap_is_sound_before_void_until_and_one_that_is_void_for_a_hole_says_until_when():
    until_ns, told = 0, 0
    for snap in snaps("halts"):
        said = payload.head(snap, "ES")["void_until_ns"]
        assert snap.snap_ns >= until_ns or snap.void_reason is not None
        assert said is None or (snap.snap_ns < said and snap.void_reason is not None)
        assert snap.void_reason != "not whole" or said is not None
        until_ns, told = said or until_ns, told + (said is not None)

    assert told > 20
    assert any(snap.void_reason is None for snap in snaps("halts"))
    assert until_ns > snaps()[0].snap_ns + 10 * NS_PER_SECOND


def test_a_note_says_what_stands_out():
    rows = all_rows()
    walls = rows[rows["barrier_held_state"] == "WALL"]

    assert walls["note"].str.contains("a wall stands").all()
    assert rows["note"].isna().any()
    given = rows[rows["signal"] != "NEUTRAL"]
    assert set(given["signal"]) == {"BREAK", "REJECT"}
    assert (given["note"].str.split(":").str[0] == given["signal"]).all()
    quiet = rows[(rows["signal"] == "NEUTRAL") & ~rows["level_touched"] & (rows["barrier_held_state"] == "NEUTRAL")]
    assert quiet[quiet["fuel_effect"] == "NEUTRAL"]["note"].isna().all()


# Rows and JSON


def test_rows_become_json_and_the_same_rows_again():
    for rows in gold():
        assert payload.flatten(json.loads(as_text(rows))).equals(rows)


def test_json_becomes_rows_and_the_same_json_again():
    for rows in gold()[::7]:
        text = as_text(rows)
        assert as_text(payload.flatten(json.loads(text))) == text


FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    pa.float64(): FINITE,
    pa.string(): st.text(),
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.list_(pa.string()): st.lists(st.text(), max_size=3),
}


@st.composite
def any_rows(draw):
    """Rows of one snap with any values that the columns take."""
    count = draw(st.integers(1, 3))
    columns = []
    for column in GOLD:
        one = VALUES[column.type] if not column.nullable else st.none() | VALUES[column.type]
        if column.name == "underlying":
            one = st.sampled_from(["ES", "SPY"])
        if column.name == "ts_event_ns":
            one = st.integers(0, 2**62)
        values = [draw(one)] * count if column.name in OF_SNAP else draw(st.lists(one, min_size=count, max_size=count))
        columns.append(pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(columns, schema=GOLD)


@settings(max_examples=60, deadline=None)
@given(any_rows())
def test_any_rows_become_json_and_the_same_rows_again(rows):
    assert payload.flatten(json.loads(as_text(rows))).equals(rows)


def test_json_is_what_the_schema_says():
    assert len(gold()) > 150
    for rows in gold():
        assert misfits(json.loads(as_text(rows)), SCHEMA) == []


def test_a_snap_without_a_level_is_what_the_schema_says_too():
    snap = snaps()[0]
    none = payload.rows(snap, Sight().rows(snap).slice(0, 0), "ES", "SIM")
    document = payload.document(none, payload.head(snap, "ES", "SIM"))

    assert document["levels"] == []
    assert misfits(json.loads(json.dumps(document, allow_nan=False)), SCHEMA) == []
    assert payload.flatten(document).num_rows == 0


@pytest.mark.parametrize("spoil", [
    lambda document: document.pop("void_until_ns"),
    lambda document: document.pop("es"),
    lambda document: document.update(more=1),
    lambda document: document["levels"][0].update(more=1),
    lambda document: document["levels"][0]["barrier"].pop("coverage"),
    lambda document: document["levels"][0]["barrier"].update(state="SOLID"),
    lambda document: document["levels"][0].update(confidence="HIGH"),
])  # fmt: skip
def test_a_document_that_is_otherwise_does_not_fit_the_schema(spoil):
    document = json.loads(as_text(gold()[-1]))
    spoil(document)

    assert misfits(document, SCHEMA)


# From a program


def test_of_a_payload_as_the_first_documents_have_it_each_level_is_a_row():
    rows = payload.flatten({**SEED, "levels": [LEVEL, {**LEVEL, "id": "PM_HIGH", "price": 6850}]})

    assert rows.column("ts_event_ns").to_pylist() == [SEED["ts"] * 1_000_000] * 2
    assert rows.column("underlying").to_pylist() == ["ES", "ES"]
    assert rows.column("level_id").to_pylist() == ["VWAP", "PM_HIGH"]
    assert rows.column("level_price").to_pylist() == [6845.0, 6850.0]
    assert rows.column("barrier_state").to_pylist() == ["WALL", "WALL"]
    assert (rows.column("spot")[0].as_py(), rows.column("bid")[0].as_py()) == (6845.25, 6845.0)
    assert rows.column("fuel_effect").null_count == 2


@pytest.mark.parametrize(("change", "line"), [
    ({"ts": None}, "'ts_event_ns' is missing, and `ts` too"),
    ({"ts_event_ns": 1}, "'ts' is not the millisecond of ts_event_ns"),
    ({"es": 6845.25}, "'es' is no quote"),
    ({"nq": {"spot": 1.0}}, "is no quote"),
    ({"levels": "VWAP"}, "'levels' is no list of objects"),
    ({"levels": [{**LEVEL, "colour": "red"}]}, "'colour' is not known"),
    ({"levels": [{**LEVEL, "barrier": {"stat": "WALL"}}]}, "'barrier.stat' is not known"),
    ({"levels": [{**LEVEL, "barrier": "WALL"}]}, "'barrier' is no object"),
    ({"levels": [{**LEVEL, "price": None}]}, "'price' is missing"),
    ({"levels": [{**LEVEL, "price": math.nan}]}, "'price' is no finite number"),
    ({"levels": [{**LEVEL, "runway": {"next_ticks": math.inf}}]}, "'runway.next_ticks' is no finite number"),
    ({"levels": [{**LEVEL, "confidence": "HIGH"}]}, "'confidence' is not of type double"),
    ({"levels": [{**LEVEL, "touches": 2**40}]}, "'touches' is not of type int32"),
])  # fmt: skip
def test_a_payload_that_does_not_fit_is_refused_by_the_name_of_the_field(change, line):
    given_payload = {**copy.deepcopy(SEED), "levels": [LEVEL], **change}
    with pytest.raises(UsageError, match="Next: compare with docs/levels.signals.v1.schema.json") as refused:
        payload.flatten(given_payload)

    assert line in str(refused.value)
    assert "Nothing of this payload was written" in str(refused.value)


def test_rows_cost_a_snap_little():
    """The bound is ten times what it takes; the time itself is in bench/."""
    snap = snaps()[-1]
    levels = Sight().rows(snap)
    best = min(_seconds(lambda: payload.rows(snap, levels, "ES", "SIM")) for _ in range(20))

    assert best < 0.002


def _seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
