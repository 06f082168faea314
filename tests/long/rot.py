"""Flips and mutations by the thousand, or by the million, over processes. Every case is a function of its number.

The short form is a test; the long form flips every bit there is and cuts at every byte:

    torture(flips=1_800_000, mutations=200_000, workers=2)
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from typing import NamedTuple

from spymaster import events
from spymaster.wal import segment
from tests.rot.audit import Finding, Reader, audit
from tests.rot.damage import TAILS, flipped, mutated, mutated_bytes
from tests.rot.lake import Lake, audit_index, audit_part, small_lake
from tests.rot.originals import Original, original
from tests.rot.salvage import NAMES, audit_salvage

SCHEMAS = tuple(events.SCHEMAS)
CHUNK = 2_000  # cases that a worker is given at once
LONG = 200_000  # mutations from which on the files are cut at every byte
SIBLING = 7  # the number of a segment whose bytes get into another
DAMAGED_WHOLE = 0.1  # of the recoveries are of a file that is all garbage


class RotFigures(NamedTuple):
    """What was tried and what was found.

    Attributes:
        flips: single bits flipped, one at a time.
        mutations: files cut, filled up, overwritten, mixed with others.
        undetected: damage that was not seen, or not told apart from the sound bytes around it.
        invented_rows: cases in which a row came out that nobody had written.
        seconds: how long it took.
        findings: the first few, each with the case that shows it again.
    """

    flips: int
    mutations: int
    undetected: int
    invented_rows: int
    seconds: float
    findings: tuple[str, ...] = ()


class Job(NamedTuple):
    """Cases `first` to `last` of `of`, of one kind."""

    kind: str
    first: int
    last: int
    of: int


def small(name: str) -> Original:
    return original(name)


def wal_bits() -> int:
    return sum(small(name).size * 8 for name in SCHEMAS)


def wal_bytes() -> int:
    return sum(small(name).size for name in SCHEMAS)


def _nth_byte(place: int) -> tuple[Original, int]:
    for name in SCHEMAS:
        if place < small(name).size:
            return small(name), place
        place -= small(name).size
    raise IndexError(place)


def wal_flip(number: int, of: int, reader: Reader = segment) -> Finding | None:
    """Flip a bit: evenly spread over all segments, or every one and then more in larger segments."""
    bits = wal_bits()
    if of >= bits and number >= bits:
        chance = random.Random(number)
        own = original(chance.choice(SCHEMAS), frames=6, rows=50)
        return audit(reader, flipped(own.raw, chance.randrange(own.size * 8)), own)
    bit = number if of >= bits else number * bits // of
    own, at = _nth_byte(bit // 8)
    return audit(reader, flipped(own.raw, at * 8 + bit % 8), own)


def wal_tail(number: int, of: int, reader: Reader = segment) -> Finding | None:
    """Cut a segment, or overwrite it with zeros or garbage to its end: evenly spread, or at every byte."""
    total = wal_bytes() * len(TAILS)
    place = number * total // of
    own, at = _nth_byte(place // len(TAILS))
    damaged = list(TAILS.values())[place % len(TAILS)](own.raw, at)
    return None if damaged == own.raw else audit(reader, damaged, own)


def siblings(own: Original, frames: int, rows: int) -> list[Original]:
    """Return another segment of the stream, one with rows of the same numbers, and one of another schema."""
    name = own.header.stream.schema
    other = SCHEMAS[(SCHEMAS.index(name) + 1) % len(SCHEMAS)]
    later = original(name, number=SIBLING, frames=frames, rows=rows, start=frames * rows)
    twin = original(name, number=SIBLING + 1, frames=frames, rows=rows, start=1_000)
    return [later, twin, original(other, number=1, frames=frames, rows=rows)]


def wal_mutation(number: int, _: int, reader: Reader = segment) -> Finding | None:
    """Damage a segment by one or two structured mutations."""
    chance = random.Random(number)
    frames, rows = chance.choice([(2, 2), (2, 2), (5, 3), (1, 40)])
    own = original(chance.choice(SCHEMAS), frames=frames, rows=rows)
    others = siblings(own, frames, rows)
    damaged = mutated(own, others, chance)
    return None if damaged == own.raw else audit(reader, damaged, own, others)


def salvaged(number: int, _: int) -> Finding | None:
    """Recover a damaged segment in a folder of its own, twice."""
    chance = random.Random(number)
    own = original(chance.choice(SCHEMAS), frames=3)
    others = siblings(own, 3, 2)[:2]
    damaged = chance.choice([mutated(own, others, chance), flipped(own.raw, chance.randrange(own.size * 8))])
    if chance.random() < DAMAGED_WHOLE:
        damaged = chance.choice([b"", bytes(own.size), chance.randbytes(own.size)])
    return audit_salvage(damaged, own, others, name=chance.choice(NAMES), followed=chance.random() < 0.5)


def part_flip(number: int, of: int, lake: Lake) -> Finding | None:
    return audit_part(lake, flipped(lake.part_raw, number * len(lake.part_raw) * 8 // of))


def part_mutation(number: int, of: int, lake: Lake) -> Finding | None:
    """Cut or fill a part at a byte of its own, then at others, or mix it up."""
    chance, raw = random.Random(number), lake.part_raw
    tail = list(TAILS.values())[number % len(TAILS)]
    damaged = mutated_bytes(raw, chance) if number % 4 == 0 else tail(raw, number * len(raw) // of)
    return None if damaged == raw else audit_part(lake, damaged)


def index_flip(number: int, of: int, lake: Lake) -> Finding | None:
    """Flip a bit of the catalog: half of them in its first hundred bytes, SQLite's own header."""
    size = 100 if number % 2 else len(lake.index_raw)
    return audit_index(lake, flipped(lake.index_raw, number * size * 8 // of))


def index_mutation(number: int, of: int, lake: Lake) -> Finding | None:
    chance, raw = random.Random(number), lake.index_raw
    damaged = mutated_bytes(raw, chance) if number % 2 else raw[: number * len(raw) // of]
    return audit_index(lake, damaged)


WAL_KINDS: dict[str, Callable[[int, int], Finding | None]] = {
    "wal_flip": wal_flip,
    "wal_tail": wal_tail,
    "wal_mutation": wal_mutation,
    "salvaged": salvaged,
}
LAKE_KINDS: dict[str, Callable[[int, int, Lake], Finding | None]] = {
    "part_flip": part_flip,
    "part_mutation": part_mutation,
    "index_flip": index_flip,
    "index_mutation": index_mutation,
}
FLIPS = ("wal_flip", "part_flip", "index_flip")


def counts(flips: int, mutations: int) -> dict[str, int]:
    """Share the cases out: most are of the log's bytes; a recovery and a catalog's opening take far longer."""
    part_flips, index_flips = flips // 15, flips // 400
    salvages, index_mutations, part_mutations = mutations // 50, mutations // 100, mutations // 20
    return {
        "wal_flip": flips - part_flips - index_flips,
        "part_flip": part_flips,
        "index_flip": index_flips,
        "wal_tail": wal_bytes() * len(TAILS) if mutations >= LONG else mutations,
        "wal_mutation": mutations,
        "part_mutation": part_mutations,
        "index_mutation": index_mutations,
        "salvaged": salvages,
    }


def work(job: Job) -> tuple[str, int, list[tuple[int, Finding]]]:
    """Try a job's cases; return its kind, their number and what was found."""
    found = []
    numbers = range(job.first, job.last)
    with small_lake() if job.kind in LAKE_KINDS else nullcontext() as lake:
        for number in numbers:
            if lake is None:
                finding = WAL_KINDS[job.kind](number, job.of)
            else:
                finding = LAKE_KINDS[job.kind](number, job.of, lake)
            if finding is not None:
                found.append((number, finding))
    return job.kind, len(numbers), found


def _jobs(shares: dict[str, int]) -> Iterator[Job]:
    for kind, count in shares.items():
        for first in range(0, count, CHUNK):
            yield Job(kind, first, min(first + CHUNK, count), count)


def torture(
    flips: int, mutations: int, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> RotFigures:
    """Damage log, Bronze and catalog, and count what is not seen or comes out otherwise.

    Args:
        flips: single bits; from 1,100,000 on every bit of a small segment of each schema, and of a part.
        mutations: structured ones; as many cuts and fills come on top, from 200,000 on at every byte.
        workers: processes.
        progress: called with (cases done, cases in all).
    """
    begun = time.monotonic()
    shares = counts(flips, mutations)
    done, tried, findings = 0, dict.fromkeys(shares, 0), []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(work, job) for job in _jobs(shares)]):
            kind, cases, found = future.result()
            tried[kind] += cases
            done += cases
            findings += [(finding.kind, f"{kind}({number}, {shares[kind]}): {finding}") for number, finding in found]
            if progress is not None:
                progress(done, sum(shares.values()))
    flipped_bits = sum(tried[kind] for kind in FLIPS)
    invented = sum(kind == "invented" for kind, _ in findings)
    return RotFigures(
        flipped_bits,
        done - flipped_bits,
        len(findings) - invented,
        invented,
        time.monotonic() - begun,
        tuple(text for _, text in sorted(findings)[:20]),
    )
