"""A sealed segment whose bytes were verified, for whoever turns it into something else."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from spymaster import durable
from spymaster.errors import WalError
from spymaster.wal.segment import Header, Predecessor, decode_rows, predecessor_of, scan


class SealedSegment(NamedTuple):
    """What a sealed segment holds.

    Attributes:
        path: where it lies.
        header: what it says of itself.
        before: the segment before it, where it names one.
        rows: its rows, of its schema's log columns.
    """

    path: Path
    header: Header
    before: Predecessor | None
    rows: pa.Table


def read_sealed(path: Path) -> SealedSegment:
    """Verify a sealed segment's bytes, then decode them.

    Raises:
        WalError: it is not sealed and sound.
        OSError: it cannot be read.
    """
    raw = durable.read(path)
    found = scan(raw)
    if found.header is None or not found.sealed:
        raise WalError(
            f"{path} is not a sound sealed segment: {found.problem or 'it has no seal'}. Its bytes are kept. "
            f"Next: spymaster recover"
        )
    rows, poison = decode_rows(raw, found.frames, found.header.stream)
    if poison:
        raise WalError(f"{path} holds a batch that does not decode: {poison[0][1]}. Next: spymaster recover")
    return SealedSegment(path, found.header, predecessor_of(raw, found.frames[0]), rows)
