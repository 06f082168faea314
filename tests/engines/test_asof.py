"""As of: what was known of something when something else was, and nothing later."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spymaster.engines.asof import AsOf, latest
from spymaster.engines.compiled import loops

MS, KEPT = 1_000_000, 10
loops()  # so that no example waits for it
rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=12)


def plain(told, key, ts, included):
    """Return the value of the last row of a key up to a time; of two of one time that which was added later."""
    known = [(at, place) for place, (one, at) in enumerate(told) if one == key and (at <= ts if included else at < ts)]
    return float(max(known)[1]) if known else None


@pytest.mark.parametrize("compiled", [True, False])
@given(pieces=st.lists(rows, max_size=4), asked=rows, included=st.booleans())
def test_it_is_the_latest_row_at_or_before_any_time_that_is_kept_however_late_rows_come(
    compiled, pieces, asked, included
):
    asof, told = body(compiled, KEPT * MS), []
    for number, piece in enumerate(pieces):
        key, ts_ns = columns(piece)
        asof.add(key, ts_ns, np.arange(len(told), len(told) + len(piece), dtype=np.float64)[:, None])
        told += piece
        asof.age((number + 1) * 8 * MS)
    asked = [(key, at) for key, at in asked if at >= len(pieces) * 8 - KEPT]

    found = asof.at(*columns(asked), included=included)[:, 0].tolist()

    assert [None if np.isnan(value) else value for value in found] == [
        plain(told, one, at, included) for one, at in asked
    ]


def body(compiled, keep_ns):
    """Return one that looks up in a compiled loop, or in numpy."""
    asof = AsOf(1, keep_ns)
    if not compiled:
        asof._loops = None
    return asof


def columns(piece):
    return np.array([key for key, _ in piece], np.intp), np.array([at for _, at in piece], np.int64) * MS


@pytest.mark.parametrize("compiled", [True, False])
def test_who_comes_later_than_is_kept_finds_the_newest_of_the_old_only_where_it_was_before(compiled):
    asof = body(compiled, 10)
    asof.add(np.zeros(3, np.intp), np.array([1, 2, 100]), np.array([[1.0], [2.0], [3.0]]))
    asof.age(100)

    found = asof.at(np.zeros(4, np.intp), np.array([1, 2, 99, 100]))[:, 0]

    assert np.isnan(found[0])  # 1 was known then, and is not any more: nothing rather than what came later
    assert found[1:].tolist() == [2.0, 2.0, 3.0]


@pytest.mark.parametrize("compiled", [True, False])
def test_no_more_rows_are_kept_one_by_one_than_a_bound_and_of_the_oldest_the_newest_of_each_key(compiled, monkeypatch):
    monkeypatch.setattr("spymaster.engines.asof._MOST_KEPT", 2)
    asof = body(compiled, 1_000)
    asof.add(np.array([0, 1, 0, 1, 0]), np.arange(5), np.arange(5.0)[:, None])
    asof.age(5)

    asked = [(0, 1), (0, 2), (1, 2), (1, 3), (0, 4)]
    found = asof.at(*(np.array(column) for column in zip(*asked, strict=True)))[:, 0].tolist()
    assert np.isnan(found[0])  # 0 was known then, and 2 stands in its place
    assert found[1:] == [2.0, 1.0, 3.0, 4.0]


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_the_latest_known_row_of_a_key_is_at_or_before_each(told):
    key, known = np.array([one for one, _ in told], np.intp), np.array([flag for _, flag in told], np.bool_)

    expected = [
        max((at for at in range(place + 1) if told[at][0] == told[place][0] and told[at][1]), default=-1)
        for place in range(len(told))
    ]
    assert latest(key, known).tolist() == expected


def test_who_comes_too_late_does_not_replace_what_is_newer():
    asof = AsOf(1, 10)
    for ts_ns, value in ((50, 1.0), (40, 2.0)):
        asof.add(np.zeros(1, np.intp), np.array([ts_ns]), np.array([[value]]))
        asof.age(100)

    assert asof.at(np.zeros(1, np.intp), np.array([100])).tolist() == [[1.0]]
