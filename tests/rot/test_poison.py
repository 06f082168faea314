"""Claims that a checksum does not refute: never a crash, a hang, or memory without bound."""

import resource
import struct
import subprocess
import sys

import pytest

from spymaster import events
from spymaster.wal import segment
from spymaster.wal.segment import decode_rows, scan
from tests.rot import poison
from tests.rot.mutants import reader_with
from tests.rot.originals import original

SOME = 12  # of so many cases one is read here; the program reads all


@pytest.mark.parametrize("name", ["stocks.quotes", "system.captures"])
def test_what_no_checksum_refutes_neither_kills_nor_hangs_the_process_that_decodes_it(name):
    whole = original(name)
    count = sum(1 for _ in poison.cases(whole))

    done = run(name, SOME)

    assert done.returncode == 0, f"case {done.stdout.split()[-1]} of {name}: {done.returncode} {done.stderr[-500:]}"
    assert len(done.stdout.split()) == -(-count // SOME)


def run(name: str, every: int, *extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.rot.poison", name, str(every), *extra]
    return subprocess.run(command, capture_output=True, text=True, timeout=150)


def test_decoding_before_the_check_crashes():
    """The defect that the order of the reader prevents: the raw check, then the decoding, then its validation."""
    done = run("stocks.quotes", SOME, "--decode-first")

    assert done.returncode < 0


def test_a_decoder_that_does_not_validate_is_caught():
    whole = original("stocks.quotes")
    unvalidated = reader_with("what decodes is held for sound (poison)")
    believed = 0
    for raw in list(poison.cases(whole))[-poison.BODY_CASES :]:  # claims of the body alone; counting them is safe
        view = memoryview(raw)
        frames = scan(view).frames[:2]
        refused = len(decode_rows(view, frames, whole.header.stream)[1])
        believed += refused > len(unvalidated.decode_rows(view, frames, whole.header.stream)[1])

    assert believed > 0


@pytest.mark.parametrize("name", events.SCHEMAS)
@pytest.mark.parametrize("claim", [0x7FFFFFF0, -1, -8, 0, 1])
def test_a_length_that_claims_too_much_allocates_nothing(name, claim):
    whole = original(name)
    for at in (0, *(piece.offset for piece in whole.pieces)):
        damaged = bytearray(whole.raw)
        damaged[at + 4 : at + 8] = struct.pack("<i", claim)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert scan(memoryview(bytes(damaged))).problem is not None
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_frames_claimed_over_one_another_are_not_summed_without_end(monkeypatch):
    """Each of thousands of headers claims all that follows: summed each time, it is a product and not a sum."""
    whole = original("stocks.quotes")
    size = 4 << 20
    summed = []

    def counting(data, *start):
        summed.append(len(data))
        return crc32c(data, *start)

    crc32c = segment.crc32c
    monkeypatch.setattr(segment, "crc32c", counting)
    for raw in (poison.overlapping(whole, size, whole.header_raw), poison.overlapping(whole, size, b"")):
        summed.clear()
        found = scan(memoryview(raw))
        assert found.problem is not None
        assert sum(summed) < 20 * size
