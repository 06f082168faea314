"""However bytes are cut into messages, and however many of those are given together, what comes of them is the same."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster.errors import SourceError
from spymaster.normalize.databento import normalizer as databento
from spymaster.normalize.massive import day_files, frames
from spymaster.normalize.normalizer import Message, Normalizer, Unreadable, grouped
from tests.normalize.dbn_bytes import (
    CBBO_1S,
    MBP1,
    MBP10,
    STATISTICS,
    T0,
    definition,
    es_header,
    mapping,
    quote,
    reader,
    record,
    trade,
)
from tests.normalize.dbn_bytes import STATUS as DBN_STATUS
from tests.normalize.massive_fuzz import (
    LINES,
    OPTION_TRADE,
    RECEIVED,
    SNAPSHOT,
    STATUS,
    STOCK_QUOTE,
    STOCK_TRADE,
    frame_reader,
    line_reader,
    page_reader,
)
from tests.normalize.test_massive import encoded

Outcome = tuple[dict[str, pa.Table], list[Unreadable], dict[str, int], int, str]


def outcome_of(normalizer: Normalizer, bursts: Iterator[Sequence[Message]]) -> Outcome:
    """Return rows, quarantine, counts and the error, all that a delivery comes to."""
    batches: dict[str, list[pa.RecordBatch]] = {}
    unreadable: list[Unreadable] = []
    failure = ""
    try:
        for burst in bursts:
            done = normalizer.normalize(burst)
            unreadable += done.unreadable
            for schema, batch in done.batches:
                batch.validate(full=True)
                batches.setdefault(schema.name, []).append(batch)
        normalizer.finish()
    except SourceError as error:
        failure = str(error)
    tables = {name: pa.Table.from_batches(some).combine_chunks() for name, some in batches.items()}
    return tables, unreadable, dict(normalizer.ignored), dict(normalizer.odd), normalizer.unmapped, failure


def in_parts(whole: Any, sizes: list[int]) -> Iterator[Any]:
    """Cut bytes, or messages, into parts of these sizes, again and again."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(whole):
            return
        yield whole[at : at + size]
        at += size


def check(make: Callable[[], Normalizer], messages: list[Message], sizes: list[int]) -> Outcome:
    """Check that messages in bursts come to what they come to one at a time."""
    alone = outcome_of(make(), in_parts(messages, [1]))
    assert outcome_of(make(), in_parts(messages, sizes)) == alone
    return alone


CUTS = st.lists(st.integers(0, 150) | st.just(400), min_size=1, max_size=9).filter(any)
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)
RECORDS = [
    trade(),
    trade(instrument_id=2, sequence=7),
    trade(instrument_id=3),
    record(MBP10, sequence=8),
    mapping(2, "ESH6"),
    mapping(2, "NQZ5", ts_event=2**64 - 1),
    definition("ESZ5 C6900", kind=b"C"),
    quote(MBP1),
    quote(CBBO_1S, instrument_id=3),
    quote(MBP1, instrument_id=3, bid=2_000_000_000),
    record(STATISTICS, stat_type=9),
    record(DBN_STATUS, action=77),
    trade(rtype=77),
    trade(size=2**31),
    trade(rtype=160),
]


@settings(max_examples=300, deadline=None)
@given(
    records=st.lists(st.sampled_from(RECORDS), min_size=3, max_size=25),
    end=st.integers(0, 60),
    zero=st.none() | st.integers(0, 20),
    cuts=CUTS,
    sizes=SIZES,
    piece=st.sampled_from([64, 500, 2_000, databento.PIECE_BYTES]),
    live=st.booleans(),
)
def test_records_come_to_the_same_in_bursts(
    records: list[bytes], end: int, zero: int | None, cuts: list[int], sizes: list[int], piece: int, live: bool
) -> None:
    if zero is not None:
        records = [*records[:zero], bytes(8), *records[zero:]]
    data = b"".join(records)
    data = data[: len(data) - end]
    messages = [(message, T0 + n if live else None) for n, message in enumerate(in_parts(data, cuts))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(databento, "PIECE_BYTES", piece)
        check(lambda: reader(es_header(schema=None)), messages, sizes)


def test_a_record_is_received_with_the_message_that_completes_it() -> None:
    """Not by the code that is tested: each record's last byte is looked up in the list of messages."""
    rng = random.Random(3)
    data = b"".join(trade(sequence=number) for number in range(4_000))
    cuts = [rng.choice((1, 7, 47, 48, 49, 96, 500)) for _ in range(3_000)]
    messages = [(message, T0 + n) for n, message in enumerate(in_parts(data, cuts))]
    (tables, *_) = outcome_of(reader(es_header()), iter([messages]))

    by_byte = [time for message, time in messages for _ in message]
    assert tables["futures.trades"]["ts_local_ns"].to_pylist() == by_byte[47::48]
    assert tables["futures.trades"]["seq"].to_pylist() == list(range(4_000))


def test_small_messages_are_read_many_at_a_time_and_a_large_one_in_parts() -> None:
    data = trade() * 40_000
    small = [(data[at : at + 4_800], T0) for at in range(0, len(data), 4_800)]
    for messages in (small, [(data, T0)]):
        batches = reader(es_header()).normalize(messages).batches
        assert len(batches) == -(-len(data) // databento.PIECE_BYTES)
        assert max(batch.num_rows for _, batch in batches) * 48 <= databento.PIECE_BYTES + 48


def test_the_rows_before_a_record_of_length_zero_are_given_and_the_error_comes_next() -> None:
    normalizer = reader(es_header())
    done = normalizer.normalize([(trade(), T0), (trade() + bytes(48), T0 + 1), (trade(), T0 + 2)])

    assert sum(batch.num_rows for _, batch in done.batches) == 2
    with pytest.raises(SourceError, match=f"byte {len(es_header()) + 96}:"):
        normalizer.normalize([(trade(), T0 + 3)])
    with pytest.raises(SourceError, match=f"byte {len(es_header()) + 96}:"):
        normalizer.finish()


FRAMES = [
    encoded([STOCK_TRADE]),
    encoded([STOCK_QUOTE, STOCK_TRADE | {"sym": "A"}]),
    encoded([STATUS, STOCK_QUOTE]),
    encoded([STOCK_TRADE | {"x": "4"}]),
    encoded([OPTION_TRADE]),
    b"[]",
    b"[",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FRAMES), max_size=30), SIZES, st.sampled_from([1, 600, frames.GROUP_BYTES]))
def test_frames_come_to_the_same_in_bursts(sent: list[bytes], sizes: list[int], group: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "GROUP_BYTES", group)
        check(lambda: frame_reader("stocks"), [(frame, RECEIVED + n) for n, frame in enumerate(sent)], sizes)


PAGES = [
    encoded({"results": [SNAPSHOT, SNAPSHOT | {"open_interest": 5}], "status": "OK"}),
    encoded({"results": SNAPSHOT}),
    encoded({"results": [SNAPSHOT | {"details": {}}]}),
    encoded({"results": [], "status": "OK"}),
    encoded({"status": "ERROR"}),
    b"{",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PAGES), max_size=12), SIZES)
def test_pages_come_to_the_same_in_bursts(sent: list[bytes], sizes: list[int]) -> None:
    messages = [(page, RECEIVED + n) for n, page in enumerate(sent)]
    check(lambda: page_reader("options.greeks_snapshots", "AAPL"), messages, sizes)


HEADER, *PLAIN_LINES = (line.encode() + b"\n" for line in LINES["stocks.trades"])
ODD_LINES = [
    PLAIN_LINES[1].replace(b"167.41", b"1e2"),
    PLAIN_LINES[1].replace(b"\n", b"\r\n"),
    PLAIN_LINES[1].replace(b",100,", b",x,"),
    PLAIN_LINES[1].replace(b"A,12", b'A,"12'),
    b"A\n",
    b"\n",
]


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.sampled_from([*PLAIN_LINES * 3, *ODD_LINES]), max_size=25),
    end=st.integers(0, 1),
    cuts=CUTS,
    sizes=SIZES,
    block=st.sampled_from([1, 300, day_files.BLOCK_BYTES]),
)
def test_lines_come_to_the_same_in_bursts(
    lines: list[bytes], end: int, cuts: list[int], sizes: list[int], block: int
) -> None:
    data = b"".join(lines)
    messages: list[Message] = [(part, None) for part in in_parts(data[: len(data) - end], cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_files, "BLOCK_BYTES", block)
        check(lambda: line_reader(HEADER, "A"), messages, sizes)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 50))
def test_a_group_is_as_long_as_it_may_be(lengths: list[int], most: int) -> None:
    messages: list[Any] = [(bytes(length), number) for number, length in enumerate(lengths)]
    groups = [list(group) for group in grouped(messages, most)]

    assert [message for group in groups for message in group] == messages
    size = [sum(len(data) for data, _ in group) for group in groups]
    assert all(total <= most or len(group) == 1 for total, group in zip(size, groups, strict=True))
    beginnings = np.array([len(group[0][0]) for group in groups[1:]], np.int64)
    assert (np.array(size[:-1], np.int64) + beginnings > most).all()
