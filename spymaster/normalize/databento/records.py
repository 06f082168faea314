"""DBN records: how they lie in bytes, and what keeps one from becoming a row. Pure.

Records come back to back: a length in 4-byte words, a kind (rtype), then the kind's fields. The fields of definitions
and mappings differ by DBN version. Arrays of records are in the vendor's own layout, whatever the version.

The vendor writes `undefined` as a type's largest value, which as a price would pass for 9,223,372,036.85. Here it
becomes null, except where a column of ours must be filled: such a record is at fault, like one whose number does not
fit its column.
"""

from typing import Any, Final, NamedTuple

import databento_dbn as dbn
import numpy as np
from numpy.typing import NDArray

from spymaster.events import BOOK_LEVELS

TRADE, MBP1, MBP10, STATUS, DEFINITION, MAPPING, STATISTICS = 0, 1, 10, 18, 19, 22, 24
CMBP1, CBBO_1S, CBBO_1M, TCBBO, BBO_1S, BBO_1M = 177, 192, 193, 194, 195, 196
QUOTES: Final = (MBP1, CMBP1, TCBBO, CBBO_1S, CBBO_1M, BBO_1S, BBO_1M)
# Of these `ts_recv` is the end of the interval, and `ts_event` the time of the last trade: hours ago, or undefined.
SAMPLES: Final = (CBBO_1S, CBBO_1M, BBO_1S, BBO_1M)

HEADER_MAGIC: Final = b"DBN"  # of a delivery's metadata
_HEADER_HEAD: Final = int.from_bytes(HEADER_MAGIC[:2], "little")
MAX_NS: Final = 2**63 - 1
UNDEFINED_TIME: Final = 2**64 - 1
UNDEFINED_PRICE: Final = 2**63 - 1
PRICE_SCALE: Final = 1e9
UNDEFINED_SIZE: Final = 2**32 - 1
MAX_INT32: Final = 2**31 - 1  # the largest size; in a multiplier it means undefined

Records = NDArray[np.void]


class Group(NamedTuple):
    """The sound records of one kind in a piece.

    Attributes:
        records: as they came.
        offsets: at which byte of the piece each begins.
        arrived_ns: when the last byte of each came by our clock; None for a file.
    """

    records: Records
    offsets: NDArray[np.int64]
    arrived_ns: NDArray[np.int64] | None


def _layout(record: Any) -> np.dtype[np.void]:
    """Return the vendor library's own account of a record's bytes."""
    layout: np.dtype[np.void] = np.dtype(record._dtypes)
    return layout


_ALIKE: Final = {  # in every version
    TRADE: dbn.TradeMsg,
    MBP1: dbn.MBP1Msg,
    MBP10: dbn.MBP10Msg,
    STATUS: dbn.StatusMsg,
    CMBP1: dbn.CMBP1Msg,
    CBBO_1S: dbn.CBBOMsg,
    CBBO_1M: dbn.CBBOMsg,
    TCBBO: dbn.CMBP1Msg,
    BBO_1S: dbn.BBOMsg,
    BBO_1M: dbn.BBOMsg,
}
LAYOUTS: Final = {
    version: {kind: _layout(record) for kind, record in (_ALIKE | own).items()}
    for version, own in {
        1: {DEFINITION: dbn.InstrumentDefMsgV1, MAPPING: dbn.SymbolMappingMsgV1, STATISTICS: dbn.StatMsgV1},
        2: {DEFINITION: dbn.InstrumentDefMsgV2, MAPPING: dbn.SymbolMappingMsg, STATISTICS: dbn.StatMsgV1},
        3: {DEFINITION: dbn.InstrumentDefMsg, MAPPING: dbn.SymbolMappingMsg, STATISTICS: dbn.StatMsg},
    }.items()
}
KIND_NAMES: Final = {int(kind.value): str(kind) for kind in dbn.RType.variants()}
# The times of a kind, and whether a record still makes a row where one is undefined.
_TIMES: Final = {
    **{kind: {"ts_event": False, "ts_recv": True} for kind in (TRADE, MBP1, MBP10, CMBP1, TCBBO, STATUS)},
    **{kind: {"ts_event": True, "ts_recv": False} for kind in SAMPLES},
    STATISTICS: {"ts_event": False, "ts_recv": True, "ts_ref": True},
    DEFINITION: {"ts_event": False, "ts_recv": True, "expiration": True, "activation": True},
    MAPPING: {"ts_event": True, "start_ts": True, "end_ts": True},
}
_COUNTS: Final = ("bid_sz_00", "ask_sz_00", "bid_ct_00", "ask_ct_00")  # of a quote, as far as its kind has them
_LEVEL_BYTES: Final = slice(48, 368)


def frame(piece: bytes) -> tuple[NDArray[np.int64], int]:
    """Return where each whole record begins, and where the last one ends: before a cut record, or one of length 0."""
    size = piece[0] * 4
    count = len(piece) // size if size else 0
    if count:
        heads = np.ndarray((count,), "<u2", piece, strides=(size,))
        rest = len(piece) - count * size
        # All alike, as in most pieces; unless the rest, too short for one more of the same, holds a smaller record.
        if (heads == heads[0]).all() and (rest == 0 or rest < piece[-rest] * 4):
            return np.arange(count) * size, count * size
    begins: list[int] = []
    at, end = 0, len(piece)
    while at < end and (size := piece[at] * 4) and at + size <= end:
        begins.append(at)
        at += size
    return np.array(begins, np.int64), at


def second_header(piece: bytes, offsets: NDArray[np.int64], end: int) -> int | None:
    """Return where a metadata header stands where a record would begin, if one does.

    Its first bytes are `DBN`: as a record's, a length of 272 and a kind that there is none of.

    Args:
        piece: the bytes that were framed.
        offsets: where its records begin.
        end: where the last one ends.
    """
    heads = np.ndarray((len(piece) - 1,), "<u2", piece, strides=(1,))[offsets] if len(offsets) else offsets
    for offset in [*offsets[heads == _HEADER_HEAD].tolist(), end]:
        if piece.startswith(HEADER_MAGIC, offset):
            return int(offset)
    return None


def gather(piece: bytes, offsets: NDArray[np.int64], size: int, layout: np.dtype[np.void]) -> Records:
    """Return the records of `size` bytes that begin at `offsets`, without copying where nothing lies between them."""
    if size == layout.itemsize and len(offsets) * size == offsets[-1] + size:
        return np.frombuffer(piece, layout, len(offsets))
    anywhere = np.ndarray((len(piece) - size + 1,), f"V{layout.itemsize}", piece, strides=(1,))
    return anywhere[offsets].view(layout)


def faults(kind: int, records: Records) -> dict[int, str]:
    """Return the records that cannot become rows, by number, with the first reason."""
    found: dict[int, str] = {}
    for name, dispensable in _TIMES[kind].items():
        late = records[name] > MAX_NS
        if late.any():
            found |= _because(late & (records[name] != UNDEFINED_TIME), f"{name} does not fit 64 bits", found)
            if not dispensable:
                found |= _because(late, f"{name} is undefined", found)
    for name in _counts(kind, records):
        large = (records[name] > MAX_INT32) & (records[name] != UNDEFINED_SIZE)
        found |= _because(large, f"{name} does not fit 32 bits", found)
    # Or-ing whole levels is five times as fast as the maximum of the counts in them.
    if kind == MBP10 and (np.bitwise_or.reduce(level_words(records, np.uint32))[:, 4:] > MAX_INT32).any():
        large = (book_counts(records) > MAX_INT32).any(axis=(1, 2))
        found |= _because(large, "a size or order count of the book does not fit 32 bits", found)
    return found


def _counts(kind: int, records: Records) -> list[str]:
    """Return the sizes and order counts of a kind, a book's levels apart."""
    if kind in QUOTES:
        return ["size", *(name for name in _COUNTS if name in (records.dtype.names or ()))]
    return ["size"] if kind in (TRADE, MBP10) else []


def _because(where: Any, reason: str, known: dict[int, str]) -> dict[int, str]:
    return {row: reason for row in np.flatnonzero(where).tolist() if row not in known}


def received_ns(records: Records) -> NDArray[np.int64]:
    """Return the vendor's capture time of sound records, or the venue's time where it is undefined."""
    received = records["ts_recv"]
    undefined = received == UNDEFINED_TIME
    return (np.where(undefined, records["ts_event"], received) if undefined.any() else received).astype(np.int64)


def text(raw: bytes) -> str:
    """Decode a NUL-padded field. It should be ASCII; what is not UTF-8 is taken byte by byte, so nothing is lost."""
    meant = raw.split(b"\0", 1)[0]
    try:
        return meant.decode()
    except UnicodeDecodeError:
        return meant.decode("latin-1")


def level_words(records: Records, word: type[np.generic]) -> NDArray[Any]:
    """View the book as words of shape (records, levels, words a level): two prices, two sizes, two order counts."""
    size = np.dtype(word).itemsize
    words = np.ascontiguousarray(records).view(word).reshape(len(records), -1)
    return words[:, _LEVEL_BYTES.start // size : _LEVEL_BYTES.stop // size].reshape(len(records), BOOK_LEVELS, -1)


def book_counts(records: Records) -> NDArray[np.uint32]:
    """View sizes and counts as (records, levels, bid size, ask size, bid count, ask count)."""
    return level_words(records, np.uint32)[:, :, 4:]
