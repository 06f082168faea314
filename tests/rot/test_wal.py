"""Rot in the log: of flipped bits, cuts and mixed-up bytes every one is seen, and told apart from what is sound."""

import pytest

from tests.long import rot
from tests.long.rot import torture, wal_flip, wal_mutation, wal_tail
from tests.rot.audit import Reader
from tests.rot.mutants import READER_MUTANTS, reader_with
from tests.rot.originals import original

FLIPS = 45_000
MUTATIONS = 2_000


def test_no_flip_and_no_mutation_of_log_bronze_or_catalog_goes_unseen_or_makes_a_row():
    calls = []
    figures = torture(FLIPS, MUTATIONS, workers=2, progress=lambda done, total: calls.append((done, total)))

    assert figures.findings == ()
    assert (figures.undetected, figures.invented_rows) == (0, 0)
    assert figures.flips >= 44_000
    assert figures.mutations >= 2 * MUTATIONS
    assert calls[-1][0] == calls[-1][1] == figures.flips + figures.mutations


def test_every_schema_every_byte_and_every_bit_has_its_turn_in_the_long_form():
    bits = rot.wal_bits()
    shares = rot.counts(1_800_000, rot.LONG)
    seen = {(own.header.stream.schema, at) for own, at in map(rot._nth_byte, range(0, rot.wal_bytes(), 97))}

    assert shares["wal_flip"] >= bits
    assert shares["wal_tail"] == 3 * rot.wal_bytes()
    assert {schema for schema, _ in seen} == set(rot.SCHEMAS)
    assert rot._nth_byte(rot.wal_bytes() - 1)[1] == original(rot.SCHEMAS[-1]).size - 1


def caught(reader: Reader, cases: int = 3_000) -> str | None:
    """Return what a small number of the same cases as above find of a reader."""
    kinds = (wal_flip, wal_mutation, wal_tail)
    in_turn = (kind(number, cases, reader) for number in range(cases) for kind in kinds)
    return next((finding.kind for finding in in_turn if finding is not None), None)


@pytest.mark.parametrize("name", READER_MUTANTS)
def test_a_reader_with_a_defect_is_caught(name):
    assert caught(reader_with(name)) is not None


def test_a_copy_of_the_reader_without_a_defect_is_not_accused():
    assert caught(reader_with(None), cases=300) is None
