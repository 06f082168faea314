"""An odd line of a day file costs its neighbours little: a few go the slow way with it, and all rows are the same."""

import random

import pytest

from spymaster.events.encoding import MassiveDayFile
from spymaster.normalize.massive.day_files import BLOCK_BYTES, FEW_LINES, DayFileNormalizer
from tests.normalize import massive_oracle
from tests.normalize.massive_fuzz import LINES

SCHEMA = "stocks.trades"
HEADER, _, PLAIN = LINES[SCHEMA]
ODD = {
    "an exponent": PLAIN.replace(",100,", ",1e2,"),
    "a blank in its id": PLAIN.replace(",11,1,", ",11,1 2,"),
    "not ASCII": PLAIN.replace("A,", "\u00c9,"),
    "a size that is no number": PLAIN.replace(",100,", ",x,"),
    "too few columns": "A,12",
    "a quote that does not end": PLAIN.replace(",11,1,", ',11,"1,'),
}


class Watched(DayFileNormalizer):
    """Counts the readings of a line by value."""

    def __init__(self) -> None:
        super().__init__(MassiveDayFile(HEADER.encode() + b"\n", ("A",)), origin="flatfile:day.csv")
        self.slow: list[bytes] = []

    def _row(self, line: bytes) -> dict[str, object]:
        self.slow.append(line)
        return super()._row(line)


def block(odd: dict[int, str]) -> list[bytes]:
    """Return the lines of one block, each with a number of its own, some of them odd."""
    count = BLOCK_BYTES // (len(PLAIN) + 10)
    lines = [odd.get(number, PLAIN).replace("381132800", f"381{number:06d}") for number in range(count)]
    return [f"{line}\n".encode() for line in lines]


def check(lines: list[bytes]) -> Watched:
    """Read a block, hold it against the oracle, and return what read it."""
    normalizer = Watched()
    done = normalizer.normalize([(b"".join(lines), None)])
    expected, refused, byte = [], [], len(HEADER) + 1
    for line in lines:
        try:
            expected.append(massive_oracle.line(line, HEADER.split(","), SCHEMA))
        except massive_oracle.BadError:
            refused.append((line, byte))
        byte += len(line)
    ((schema, batch),) = done.batches
    batch.validate(full=True)
    assert batch.schema.equals(schema.delivered, check_metadata=True)
    made = [{key: row[key] for key in expected[0]} for row in batch.to_pylist()]
    assert made == expected
    assert [(bad.data, bad.byte) for bad in done.unreadable] == refused
    return normalizer


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("at", [0, 1_234, -1])
def test_one_odd_line_takes_a_few_with_it(name: str, at: int) -> None:
    count = len(block({}))
    normalizer = check(block({at % count: ODD[name]}))

    assert count > 5_000
    assert 0 < len(set(normalizer.slow)) <= 2 * FEW_LINES  # those that it stands among, and the other half of them
    assert len(normalizer.slow) <= 4 * FEW_LINES  # among which a line that cannot be read is looked for by halves


def test_odd_lines_here_and_there_take_a_few_each() -> None:
    rng = random.Random(1)
    count = len(block({}))
    odd = {rng.randrange(count): rng.choice(list(ODD.values())) for _ in range(12)}
    normalizer = check(block(odd))

    assert len(set(normalizer.slow)) <= 2 * FEW_LINES * len(odd)


def test_lines_that_are_odd_throughout_are_read_by_value_once() -> None:
    lines = block(dict.fromkeys(range(10000), ODD["an exponent"]))
    normalizer = check(lines)

    assert sorted(normalizer.slow) == sorted(lines)


def test_plain_lines_are_not_read_by_value() -> None:
    assert check(block({})).slow == []
    assert check([line[:-1] + b"\r\n" for line in block({})]).slow == []
