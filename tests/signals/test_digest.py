"""The hash of rows says which rows, and not how they were cut."""

import itertools
import random

import pyarrow as pa
import pytest

from spymaster.signals import digest
from spymaster.signals.digest import Digest

SCHEMA = pa.schema([
    pa.field("number", pa.int64(), nullable=False), pa.field("price", pa.float64()), pa.field("text", pa.string()),
    pa.field("flag", pa.bool_()), pa.field("kinds", pa.list_(pa.string())),
])  # fmt: skip
ROWS = {
    "number": [1, 2, 3, 4, 5], "price": [1.5, None, 0.0, -2.0, 3.0], "text": ["ab", "", None, "c", "de"],
    "flag": [True, None, False, True, False], "kinds": [["a", "bc"], [], None, [None, "d"], ["e"]],
}  # fmt: skip


def hashed(rows, cuts=()):
    batch, found = pa.RecordBatch.from_pydict(rows, SCHEMA), Digest(SCHEMA)
    edges = [0, *cuts, batch.num_rows]
    for begin, end in itertools.pairwise(edges):
        found.add(batch.slice(begin, end - begin))
    return found.hexdigest()


@pytest.mark.parametrize("at_once", [1, 2, 65_536])
def test_every_cut_gives_the_same_hash(monkeypatch, at_once):
    monkeypatch.setattr(digest, "_AT_ONCE", at_once)
    whole = hashed(ROWS)
    for seed in range(20):
        assert hashed(ROWS, sorted(random.Random(seed).choices(range(6), k=3))) == whole


def test_the_hash_is_pinned():
    assert hashed(ROWS) == "c86586310acb9dcd00e6bd0ac6ca31c8534897ace64b33aaa9da6fa5bd91582f"


@pytest.mark.parametrize(("column", "at", "value"), [
    ("number", 0, 7), ("price", 1, 0.0), ("price", 2, None), ("text", 1, None), ("text", 2, ""), ("flag", 1, False),
    ("kinds", 1, None), ("kinds", 2, []), ("kinds", 0, ["ab", "c"]), ("kinds", 3, ["", "d"]),
])  # fmt: skip
def test_another_value_gives_another_hash(column, at, value):
    other = {name: list(values) for name, values in ROWS.items()}
    other[column][at] = value
    assert hashed(other) != hashed(ROWS)


def test_texts_that_flow_into_one_another_are_told_apart():
    other = {**ROWS, "text": ["a", "b", None, "c", "de"]}
    assert hashed(other) != hashed(ROWS)
