"""What makes two deliveries of one event the same, and the 16 bytes that name it.

`event_id` is the MD5 of a fixed binary layout, so that it can be computed on columns here and in one line anywhere:

    md5(struct.pack("<64s4q", f"{source}|{instrument}".encode(), time_ns, price_e9, size, seq) + more)

`more` are the schema's further identity columns in order: an integer as eight bytes, a price as an exact 1e-9 integer,
a text as a 64-byte block of its own. A null number, and a column that the schema has not got, is the smallest int64; a
null text is 64 bytes of 0xff; a text of more than 64 bytes, or with a zero byte at its end, is its SHA-256 in hex. The
layout never changes.

Massive sends milliseconds live and nanoseconds in its files for one and the same print, so of its sources the time is
floored to the millisecond.

Equal identity does not prove a duplicate: a venue may well print twice what cannot be told apart.
"""

import hashlib
import math
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spymaster.clock import NS_PER_MS
from spymaster.events.schema import EventSchema

NULL: Final = -(2**63)
_TEXT_BYTES: Final = 64
_CHUNK_ROWS: Final = 16_384  # of which state and message stay in the cache
_BLOCK_BYTES: Final = 64
_WORDS: Final = 16  # of four bytes in a block
_FLOORED: Final = "massive."  # sources whose times come in two precisions

_LEFT: Final = [np.array(shift, np.uint32) for shift in (7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21)]
_RIGHT: Final = [np.array(32 - shift, np.uint32) for shift in _LEFT]
_SINES: Final = [np.array(int(abs(math.sin(step + 1)) * 2**32), np.uint32) for step in range(64)]
_START: Final = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)

Words = NDArray[np.uint32]


class Texts(NamedTuple):
    """A column of texts: which of the distinct ones, None among them, each row has."""

    codes: NDArray[np.int64]
    distinct: list[str | None]


class Identity(NamedTuple):
    """The identity of rows, as columns that are equal exactly where the events are.

    Attributes:
        time_ns: the identity time, UTC nanoseconds.
        instrument: `source|instrument`.
        rest: price, size, seq and what the schema adds, in order.
    """

    time_ns: NDArray[np.int64]
    instrument: Texts
    rest: list[NDArray[np.int64] | Texts]

    def numbers(self) -> list[NDArray[np.int64]]:
        """Return the columns beside the time as numbers, to compare and to sort by."""
        return [self.instrument.codes, *(column.codes if isinstance(column, Texts) else column for column in self.rest)]

    def take(self, rows: NDArray[np.int64]) -> "Identity":
        """Return the identity of some rows."""
        instrument, *rest = (
            column._replace(codes=column.codes[rows]) if isinstance(column, Texts) else column[rows]
            for column in (self.instrument, *self.rest)
        )
        return Identity(self.time_ns[rows], instrument, rest)  # type: ignore[arg-type]  # the first is a text


def columns_of(schema: EventSchema) -> list[str]:
    """Return the columns that `identity_of` reads."""
    return list(dict.fromkeys(["ts_event_ns", "source", *filter(None, schema.identity)]))


def identity_of(schema: EventSchema, rows: pa.Table) -> Identity:
    """Return the identity of each row. `rows` may have more columns than `columns_of` names."""
    instrument, *rest = schema.identity
    source, named = _texts(rows["source"]), _texts(rows[str(instrument)])
    texts: list[str | None] = [f"{which}|{what or ''}" for which, what in product(source.distinct, named.distinct)]
    place = {text: number for number, text in enumerate(texts)}  # no instrument and an empty one are one text
    codes = np.array([place[text] for text in texts], np.int64)[source.codes * len(named.distinct) + named.codes]
    values = [_values(rows[name]) if name else np.full(rows.num_rows, NULL) for name in rest]
    return Identity(identity_time_ns(rows), Texts(codes, texts), values)


def identity_time_ns(rows: pa.Table) -> NDArray[np.int64]:
    """Return `ts_event_ns`, floored where one event comes in two precisions."""
    stamps: NDArray[np.int64] = rows["ts_event_ns"].to_numpy()
    source = _texts(rows["source"])
    coarse = np.array([str(name).startswith(_FLOORED) for name in source.distinct], bool)
    if not coarse.any():
        return stamps
    return np.where(coarse[source.codes], stamps - stamps % NS_PER_MS, stamps)


def event_ids(identity: Identity) -> pa.Array:
    """Return the MD5 of each row's identity, 16 bytes each."""
    rows = len(identity.time_ns)
    begun = _compress(_started(len(identity.instrument.distinct)), _blocks(identity.instrument).T)
    columns = [identity.time_ns, *identity.rest]
    blocks = [_blocks(column) if isinstance(column, Texts) else None for column in columns]
    width = sum(8 if block is None else _TEXT_BYTES for block in blocks)
    words = np.zeros((-(-(width + 9) // _BLOCK_BYTES) * _WORDS, min(rows, _CHUNK_ROWS)), np.uint32)
    words[width // 4] = 0x80  # the end of the message, and its length in bits
    words[-2] = 8 * (_BLOCK_BYTES + width)
    digests = np.empty((rows, 4), "<u4")
    for first in range(0, rows, _CHUNK_ROWS):
        span = slice(first, min(first + _CHUNK_ROWS, rows))
        own = words[:, : span.stop - first]
        at = 0
        for column, block in zip(columns, blocks, strict=True):
            if isinstance(column, Texts):
                own[at : at + _WORDS] = block[column.codes[span]].T  # type: ignore[index]  # it has one
                at += _WORDS
            else:
                own[at : at + 2] = column[span].astype("<i8").view("<u4").reshape(-1, 2).T
                at += 2
        state = [word[identity.instrument.codes[span]] for word in begun]
        for block_at in range(0, len(words), _WORDS):
            state = _compress(state, own[block_at : block_at + _WORDS])
        for number, word in enumerate(state):
            digests[span, number] = word
    buffer: Any = digests
    return pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(buffer)])


def _values(column: pa.ChunkedArray) -> NDArray[np.int64] | Texts:
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return _texts(column)
    if pa.types.is_floating(column.type):
        return _exact(column)
    return _filled(column.cast(pa.int64()), NULL)


def _exact(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return prices as 1e-9 integers; not a number, or one beyond 64 bits, as the bits that it is made of."""
    prices = _filled(column, 0.0)
    with np.errstate(over="ignore"):
        scaled = np.rint(prices * 1e9)
    if np.abs(scaled).max(initial=0.0) < 2.0**63:  # which what is not a number is not
        exact = scaled.astype(np.int64)
    else:
        usable = np.abs(scaled) < 2.0**63
        exact = np.where(usable, np.where(usable, scaled, 0.0).astype(np.int64), prices.view(np.int64))
    return np.where(column.is_null().to_numpy(), NULL, exact) if column.null_count else exact


def _filled(column: Any, value: float) -> NDArray[Any]:
    filled: NDArray[Any] = (pc.fill_null(column, value) if column.null_count else column).to_numpy()
    return filled


def _texts(column: pa.ChunkedArray) -> Texts:
    coded: Any = column.dictionary_encode().unify_dictionaries().combine_chunks()
    distinct = coded.dictionary.to_pylist()  # the distinct ones only
    codes = _filled(coded.indices, len(distinct)).astype(np.int64)
    return Texts(codes, [*distinct, None] if coded.null_count else distinct)


def _blocks(texts: Texts) -> Words:
    """Return the 64-byte block of each distinct text, a row each."""
    raw = b"".join(map(_block, texts.distinct))
    return np.frombuffer(raw, "<u4").reshape(-1, _WORDS)


def _block(text: str | None) -> bytes:
    if text is None:
        return b"\xff" * _TEXT_BYTES
    raw = text.encode()
    plain = len(raw) <= _TEXT_BYTES and not raw.endswith(b"\0")
    return raw.ljust(_TEXT_BYTES, b"\0") if plain else hashlib.sha256(raw).hexdigest().encode()


def _started(rows: int) -> list[Words]:
    return [np.full(rows, word, np.uint32) for word in _START]


def _compress(state: list[Words], words: Words) -> list[Words]:
    """Take one 64-byte block of each row into its state (RFC 1321, 3.4). In place where it can: memory is the cost.

    Args:
        state: four words of each row.
        words: sixteen words of each row, as rows of an array.
    """
    a, b, c, d = (word.copy() for word in state)
    mixed, low = np.empty_like(a), np.empty_like(a)
    for step in range(64):
        turn = step // 16
        if turn == 0:  # d ^ (b & (c ^ d))
            np.bitwise_xor(c, d, out=mixed)
            mixed &= b
            mixed ^= d
            word = step
        elif turn == 1:  # c ^ (d & (b ^ c))
            np.bitwise_xor(b, c, out=mixed)
            mixed &= d
            mixed ^= c
            word = (5 * step + 1) % 16
        elif turn == 2:
            np.bitwise_xor(b, c, out=mixed)
            mixed ^= d
            word = (3 * step + 5) % 16
        else:  # c ^ (b | ~d)
            np.invert(d, out=mixed)
            mixed |= b
            mixed ^= c
            word = (7 * step) % 16
        mixed += a
        mixed += words[word]
        mixed += _SINES[step]
        np.right_shift(mixed, _RIGHT[4 * turn + step % 4], out=low)
        np.left_shift(mixed, _LEFT[4 * turn + step % 4], out=a)
        a |= low
        a += b
        a, d, c, b = d, c, b, a
    return [word + new for word, new in zip(state, (a, b, c, d), strict=True)]
