"""Symbols from outside as path components, and nothing else as a name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster import paths
from spymaster.errors import UsageError


@pytest.mark.parametrize(
    ("symbol", "component"),
    [
        ("ES", "ES"),
        ("ESZ5-ESH6", "ESZ5-ESH6"),
        ("BRK/B", "BRK%2FB"),
        ("BRK.B", "BRK%2EB"),
        ("../../etc", "%2E%2E%2F%2E%2E%2F%65%74%63"),
        ("UD:1V: VT 2858150", "UD%3A1V%3A%20VT%202858150"),
        ("..", "%2E%2E"),
        ("a\0b", "%61%00%62"),
        ("spymaster", "spymaster"),
    ],
)
def test_odd_symbols_are_encoded(symbol, component):
    assert paths.encode_symbol(symbol) == component
    assert paths.decode_symbol(component) == symbol


@given(st.text(min_size=1, max_size=16))
def test_any_symbol_stays_inside_its_folder_and_comes_back(symbol):
    component = paths.encode_symbol(symbol)

    assert Path("/lake", component).resolve().parent == Path("/lake")
    assert paths.decode_symbol(component) == symbol
    assert len(f".futures_trades_{component}.000001.poisoned.arrow.tmp") < 255


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_two_symbols_never_share_a_name_even_where_case_is_folded(one, other):
    if one != other and paths.OWN_SYMBOL not in (one.lower(), other.lower()):
        assert paths.encode_symbol(one).lower() != paths.encode_symbol(other).lower()


@pytest.mark.parametrize("symbol", ["", "X" * 65])
def test_an_empty_or_endless_symbol_is_refused(symbol):
    with pytest.raises(UsageError, match="Nothing was written"):
        paths.encode_symbol(symbol)


@pytest.mark.parametrize("text", ["2025-13-01", "20251222", "yesterday", "2025-12-22T00:00", ""])
def test_a_date_that_is_not_one_is_refused(text):
    with pytest.raises(UsageError, match="is not a date"):
        paths.check_date(text)


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("futures_trades_ES.arrow", paths.SegmentName("futures_trades_ES", None, False, False)),
        ("futures_trades_ES.001.arrow", paths.SegmentName("futures_trades_ES", 1, False, False)),
        ("futures_trades_ES.1234.arrow", paths.SegmentName("futures_trades_ES", 1234, False, False)),
        ("futures_trades_ES.007.poisoned.arrow", paths.SegmentName("futures_trades_ES", 7, True, False)),
        (".futures_trades_ES.next", paths.SegmentName("futures_trades_ES", None, False, True)),
        ("README.md", None),
        (".futures_trades_ES.001.arrow.tmp", None),
        ("x.wal", None),
    ],
)
def test_a_segment_is_known_by_its_name(name, parsed):
    assert paths.parse_segment_name(name) == parsed


def test_a_partition_is_what_its_path_says():
    partition = paths.Partition("options.trades", "underlying", "BRK/B", "2025-12-22", 14)
    name = paths.part_name("143012_345678", "0123456789abcdef" * 2)

    assert partition.folder == "options/trades/underlying=BRK%2FB/date=2025-12-22/hour=14"
    assert name == "part-143012_345678-01234567.parquet"
    assert paths.parse_part(f"{partition.folder}/{name}") == partition
