"""What a medium, a controller or a file system does to bytes. Each function returns the damaged bytes."""

import random
from collections.abc import Callable, Sequence

from tests.rot.originals import Original

SECTORS = (512, 4096)


def flipped(raw: bytes, bit: int) -> bytes:
    damaged = bytearray(raw)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def cut(raw: bytes, at: int) -> bytes:
    return raw[:at]


def zero_filled(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes(len(raw) - at)


def garbage_after(raw: bytes, at: int) -> bytes:
    return raw[:at] + random.Random(at).randbytes(len(raw) - at)


TAILS: dict[str, Callable[[bytes, int], bytes]] = {"cut": cut, "zeros": zero_filled, "garbage": garbage_after}


def _put(raw: bytes, at: int, piece: bytes) -> bytes:
    """Overwrite in place; the length stays."""
    return (raw[:at] + piece + raw[at + len(piece) :])[: len(raw)]


def _several_bytes(raw: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(chance.randint(1, 16)):
        damaged[chance.randrange(len(raw))] = chance.randrange(256)
    return bytes(damaged)


def _zeroed_sector(raw: bytes, chance: random.Random) -> bytes:
    sector = chance.choice(SECTORS)
    at = chance.randrange(len(raw) // sector + 1) * sector
    return _put(raw, at, bytes(min(sector, len(raw) - at)))


def _swapped_sectors(raw: bytes, chance: random.Random) -> bytes:
    sector = chance.choice([size for size in SECTORS if len(raw) >= 2 * size])
    one, other = (number * sector for number in chance.sample(range(len(raw) // sector), 2))
    return _put(_put(raw, one, raw[other : other + sector]), other, raw[one : one + sector])


def _stale_sector(raw: bytes, chance: random.Random) -> bytes:
    """A sector that was written where another should be: both places hold it."""
    sector = chance.choice([size for size in SECTORS if len(raw) >= 2 * size])
    one, other = (number * sector for number in chance.sample(range(len(raw) // sector), 2))
    return _put(raw, one, raw[other : other + sector])


def _duplicated_range(raw: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.sample(range(len(raw) + 1), 2))
    return raw[:end] + raw[start:end] + raw[end:]


def _deleted_range(raw: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(raw))
    return raw[:start] + raw[start + chance.choice([1, 8, 512, 4096, chance.randrange(1, len(raw))]) :]


def _inserted_range(raw: bytes, chance: random.Random) -> bytes:
    at, count = chance.randrange(len(raw) + 1), chance.choice([1, 8, 512, 4096])
    piece = bytes(count) if chance.random() < 0.3 else chance.randbytes(count)
    return raw[:at] + piece + raw[at:]


def _cut_and_garbage(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))] + chance.randbytes(chance.choice([1, 7, 64, 5000]))


_PLAIN = (
    _several_bytes,
    _zeroed_sector,
    _swapped_sectors,
    _stale_sector,
    _duplicated_range,
    _deleted_range,
    _inserted_range,
    _cut_and_garbage,
)


def mutated_bytes(raw: bytes, chance: random.Random) -> bytes:
    """Return any file's bytes after one mutation that needs to know nothing of them."""
    return chance.choice(_PLAIN)(raw, chance)


def _damaged_header(whole: Original, _: Sequence[Original], chance: random.Random) -> bytes:
    damaged = bytearray(whole.raw)
    for _ in range(chance.randint(1, 4)):
        damaged[chance.randrange(len(whole.header_raw))] = chance.randrange(256)
    return bytes(damaged)


def _spliced(whole: Original, others: Sequence[Original], chance: random.Random) -> bytes:
    """A range of another segment's bytes, as a recycled block leaves them; in the same place, or shifted."""
    raw, other = whole.raw, chance.choice(others).raw
    start, end = sorted(chance.sample(range(min(len(raw), len(other)) + 1), 2))
    source = start if chance.random() < 0.5 else chance.randrange(len(other) - (end - start) + 1)
    return _put(raw, start, other[source : source + end - start])


def _other_beginning(whole: Original, others: Sequence[Original], chance: random.Random) -> bytes:
    """Another segment's header and first frames, whole, where ours were."""
    other = chance.choice(others)
    end = chance.choice([other.header_raw and len(other.header_raw), *(piece.offset for piece in other.pieces[1:])])
    return other.raw[:end] + whole.raw[end:]


def _frames_moved(whole: Original, others: Sequence[Original], chance: random.Random) -> bytes:
    """Whole frames lost, repeated, exchanged, or in the place of ours: damage that no frame's own CRC shows."""
    pieces = [piece.raw for piece in whole.pieces]
    for _ in range(chance.randint(1, 2)):
        at = chance.randrange(len(pieces))
        how = chance.randrange(4)
        if how == 0 and len(pieces) > 1:
            del pieces[at]
        elif how == 1:
            pieces.insert(chance.randrange(len(pieces) + 1), pieces[at])
        elif how == 2:
            other = chance.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces[at] = chance.choice(chance.choice(others).pieces).raw
    header = chance.choice([whole.header_raw] * 8 + [b"", chance.choice(others).header_raw])
    return header + b"".join(pieces)


def mutated(whole: Original, others: Sequence[Original], chance: random.Random) -> bytes:
    """Return a segment's bytes after one structured mutation, or two.

    Args:
        whole: the segment.
        others: segments whose bytes may get into it.
        chance: decides which.
    """
    how = chance.randrange(len(_PLAIN) + 5)
    if how < len(_PLAIN):
        damaged = _PLAIN[how](whole.raw, chance)
    else:
        special = (_damaged_header, _spliced, _spliced, _other_beginning, _frames_moved)[how - len(_PLAIN)]
        damaged = special(whole, others, chance)
    if chance.random() < 0.2 and len(damaged) > 2 * SECTORS[1]:
        damaged = chance.choice(_PLAIN)(damaged, chance)
    return damaged
