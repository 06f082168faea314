"""Plain frames of Massive's websocket to numbers and texts in columns, compiled by numba.

A plain frame is what the vendor sends all day: an array of recorded events without spaces, `ev` first in each, strings
of printable ASCII without escapes, numbers of up to 18 digits (prices: below 2**53 without their point) and no value
that its column could not hold. Whatever else it may be, sound or not, `scan` leaves it to `frames`, which reads
it value by value; so nothing needs to be judged here, only be recognized.

A price is exact: digits below 2**53 over a power of ten below 10**19 are two floats without error, and their quotient
is the float nearest to the text.

Texts and lists are found first and copied afterwards, when it is known how long they are together: until then a span,
the place of its first byte shifted left by 32 and its length, stands for them.

Functions that read at a place return where what they read ends, or `NOT_PLAIN`. The text ends with a zero, at which
every loop stops: none looks for an end of its own.

What it earns: 1.25 M events a second where the slow way of `frames` reads 37,000 (bench/massive_frames, 2 shared x86-64
cores). Typed objects of msgspec and a list for each column would need much less code and, by the ratios that `frames`
states, give 0.4 to 0.5 M: more than the 150,000 a second that a live feed must take. So the scanner pays where bursts
are normalized whole, and leaves the processor to what follows; message by message it would not.

numba keeps what it compiled on disk, but neither syncs nor checks it: a cache that is cut short, another user's or on a
full disk is done without (`load`).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

NOT_PLAIN: Final = -1
WHOLE, PRICE, TEXT, TICKER, OPTION, CODES, CODE = range(7)  # how a field's value is written
KEY_BYTES: Final = 7  # of a key that is one number; a longer one is none of ours
UNKNOWN_KEY: Final = -2

_QUOTE, _COMMA, _MINUS, _POINT, _ZERO, _NINE, _COLON, _O = b'",-.09:O'
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST, _ESCAPE = b"{}[]\\"
_FIRST_PRINTED, _LAST_PRINTED = b" ~"
BEGIN: Final = np.frombuffer(b'{"ev":"', np.uint8)
_TRUE, _FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))
_EV: Final = int.from_bytes(b"ev", "little")
_MOST_DIGITS: Final = 18  # of a number of 64 bits, whichever they are
_EXACT: Final = 2**53
LENGTH: Final = 2**32 - 1
LEAST_CODE: Final = 1 - 2**15
MOST_CODE: Final = 2**15 - 1
_POWERS: Final = np.array([float(f"1e{power}") for power in range(_MOST_DIGITS + 1)])
_wide: Any = np.int64  # to calculate with a byte

Text = NDArray[np.uint8]
Numbers = NDArray[np.int64]
KEY, UNIT, LEAST, MOST, NEEDED = range(5)  # what is known of a field

_Function = TypeVar("_Function", bound=Callable[..., object])


class Scanner(NamedTuple):
    """The compiled functions, each as the one of its name here."""

    scan: Callable[[Text, Numbers, Text, Numbers, Numbers, Numbers, Numbers, Numbers], None]
    copy_texts: Callable[[Text, Numbers, NDArray[np.int32], Text], None]
    copy_codes: Callable[[Text, Numbers, NDArray[np.int32], NDArray[np.int16]], None]


@lru_cache(maxsize=1)
def load() -> Scanner:
    """Compile the scanner, which takes seconds, or take it from numba's cache."""
    try:
        return _tried(cache=True)
    except Exception:  # noqa: BLE001 - of a bad cache it may be any; without one the same is tried again, unguarded
        return _tried(cache=False)


def _tried(*, cache: bool) -> Scanner:
    """Return the scanner after a call of each function, with which it is compiled."""
    compiled = njit(cache=cache, nogil=True, boundscheck=True)
    scanner = Scanner(*(compiled(function) for function in (scan, copy_texts, copy_codes)))
    text, numbers = np.frombuffer(b"[]\0", np.uint8), np.zeros((1, 1, 5), np.int64)
    spans = np.zeros(1, np.int64)
    scanner.scan(text, spans + 2, text[:1], numbers, numbers, numbers[0], numbers[0], spans)
    scanner.copy_texts(text, spans, np.zeros(2, np.int32), np.zeros(0, np.uint8))
    scanner.copy_codes(text, spans, np.zeros(2, np.int32), np.zeros(0, np.int16))
    return scanner


def _compiled(function: _Function) -> _Function:
    # Kept on disk with the function that calls it; within it, as the call itself takes a third of the time.
    compiled: Any = njit(nogil=True, boundscheck=True, forceinline=True)(function)
    return compiled  # type: ignore[no-any-return]


def scan(
    text: Text,
    ends: Numbers,
    kinds: Text,
    fields: Numbers,
    numbers: Numbers,
    sent: Numbers,
    frames: Numbers,
    rows: Numbers,
) -> None:
    """Read every plain frame.

    Args:
        text: the frames' bytes, one after another, and a zero.
        ends: where each frame ends; inverted, and so below 0, if it is not plain and leaves no row.
        kinds: the letter that is `ev` in each kind of event.
        fields: (kinds, places, 5): `KEY` to `NEEDED` of each field in the vendor's order. A key is its bytes, the first
            the lowest, or -1 where a kind has no more fields; the least and the most are those of a number or of the
            length of a text.
        numbers: (kinds, room for rows, places): receives whole numbers, the bits of prices and spans; 0 for none.
        sent: (kinds, room for rows): receives a bit for each place that is not none.
        frames: (kinds, room for rows): receives the frame that each row came in.
        rows: receives how many rows there are of each kind.
    """
    begin = 0
    taken = np.empty_like(rows)
    for frame in range(len(ends)):
        for kind in range(len(rows)):
            taken[kind] = rows[kind]
        end = ends[frame]
        if _frame(text, begin, frame, kinds, fields, numbers, sent, frames, taken) == end:
            for kind in range(len(rows)):
                rows[kind] = taken[kind]
        else:
            ends[frame] = ~end
        begin = end


@_compiled
def _frame(
    text: Text,
    at: int,
    frame: int,
    kinds: Text,
    fields: Numbers,
    numbers: Numbers,
    sent: Numbers,
    frames: Numbers,
    rows: Numbers,
) -> int:
    if text[at] != _OPEN_LIST:
        return NOT_PLAIN
    if text[at + 1] == _CLOSE_LIST:
        return at + 2
    while True:
        if not _same(text, at + 1, BEGIN):
            return NOT_PLAIN
        at += 1 + len(BEGIN)
        kind = 0
        while kind < len(kinds) and kinds[kind] != text[at]:
            kind += 1
        if kind == len(kinds) or text[at + 1] != _QUOTE:
            return NOT_PLAIN
        row = rows[kind]
        rows[kind] = row + 1
        frames[kind, row] = frame
        at, sent[kind, row] = _fields(text, at + 2, fields[kind], numbers[kind, row])
        if at == NOT_PLAIN:
            return NOT_PLAIN
        if text[at] == _CLOSE_LIST:
            return at + 1
        if text[at] != _COMMA:
            return NOT_PLAIN


@_compiled
def _fields(text: Text, at: int, fields: Numbers, numbers: Numbers) -> tuple[int, int]:
    """Read an event's fields after its kind; return where it ends and a bit for each place that was sent."""
    sent, places, likely = 0, len(fields), 0
    while text[at] == _COMMA:
        key, at = _key(text, at + 1)
        if at == NOT_PLAIN or key == _EV:
            return NOT_PLAIN, 0
        place = likely
        if place == places or fields[place, KEY] != key:
            place = 0
            while place < places and fields[place, KEY] != key:
                place += 1
            if place == places:
                at = _skipped(text, at)
                if at == NOT_PLAIN:
                    return NOT_PLAIN, 0
                continue
        sent |= 1 << place  # of a key that stands twice the last value holds, as for other readers
        likely = place + 1
        numbers[place], at = _value(text, at, fields[place, UNIT], fields[place, LEAST], fields[place, MOST])
        if at == NOT_PLAIN:
            return NOT_PLAIN, 0
    if text[at] != _CLOSE:
        return NOT_PLAIN, 0
    for place in range(places):
        if not sent >> place & 1:
            if fields[place, NEEDED]:
                return NOT_PLAIN, 0
            numbers[place] = 0
    return at + 1, sent


@_compiled
def _value(text: Text, at: int, unit: int, least: int, most: int) -> tuple[int, int]:
    if unit == WHOLE:
        return _whole(text, at, least, most)
    if unit == PRICE:
        return _price(text, at)
    begin = at
    if unit == CODES:
        at = _codes(text, at, least, most)
        return _span(begin, at), at
    if unit == CODE:
        _, at = _whole(text, at, least, most)
        return _span(begin, at), at
    if text[at] != _QUOTE:
        return 0, NOT_PLAIN
    at = _string_end(text, at)
    if not least <= at - begin - 2 <= most:
        return 0, NOT_PLAIN
    if unit != TEXT and (text[begin + 1] == _O and text[begin + 2] == _COLON) != (unit == OPTION):
        return 0, NOT_PLAIN
    return _span(begin + 1, at - 1), at


@_compiled
def _span(begin: int, end: int) -> int:
    return begin << 32 | end - begin


def copy_texts(text: Text, spans: Numbers, ends: NDArray[np.int32], copied: Text) -> None:
    """Copy the texts of a column.

    Args:
        text: as for `scan`.
        spans: of each row.
        ends: (rows + 1): receives where each ends in the copy, after a 0.
        copied: receives them.
    """
    written = 0
    ends[0] = 0
    for row in range(len(spans)):
        begin = spans[row] >> 32
        for byte in range(begin, begin + (spans[row] & LENGTH)):
            copied[written] = text[byte]
            written += 1
        ends[row + 1] = written


def copy_codes(text: Text, spans: Numbers, ends: NDArray[np.int32], copied: NDArray[np.int16]) -> None:
    """Copy the codes of a column: single ones or lists.

    Args:
        text: as for `scan`.
        spans: of each row.
        ends: (rows + 1): receives where each list ends in the copy, after a 0.
        copied: receives the codes.
    """
    written = 0
    ends[0] = 0
    for row in range(len(spans)):
        at = spans[row] >> 32
        end = at + (spans[row] & LENGTH)
        while at < end:
            if text[at] == _MINUS or _ZERO <= text[at] <= _NINE:
                copied[written], at = _whole(text, at, LEAST_CODE, MOST_CODE)
                written += 1
            else:
                at += 1
        ends[row + 1] = written


@_compiled
def _key(text: Text, at: int) -> tuple[int, int]:
    """Return a key as a number, and where its value begins."""
    if text[at] != _QUOTE:
        return UNKNOWN_KEY, NOT_PLAIN
    begin, key = at + 1, 0
    at = begin
    while text[at] != _QUOTE:
        if text[at] < _FIRST_PRINTED or text[at] > _LAST_PRINTED or text[at] == _ESCAPE:
            return UNKNOWN_KEY, NOT_PLAIN
        key |= _wide(text[at]) << (8 * min(at - begin, KEY_BYTES))
        at += 1
    if text[at + 1] != _COLON:
        return UNKNOWN_KEY, NOT_PLAIN
    return (key if at - begin <= KEY_BYTES else UNKNOWN_KEY), at + 2


@_compiled
def _string_end(text: Text, at: int) -> int:
    """Return where the string of which the first quote is here ends."""
    at += 1
    while text[at] != _QUOTE:
        if text[at] < _FIRST_PRINTED or text[at] > _LAST_PRINTED or text[at] == _ESCAPE:
            return NOT_PLAIN
        at += 1
    return at + 1


@_compiled
def _codes(text: Text, at: int, least: int, most: int) -> int:
    """Return where a list of whole numbers ends."""
    if text[at] != _OPEN_LIST:
        return NOT_PLAIN
    if text[at + 1] == _CLOSE_LIST:
        return at + 2
    while True:
        _, at = _whole(text, at + 1, least, most)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        if text[at] == _CLOSE_LIST:
            return at + 1
        if text[at] != _COMMA:
            return NOT_PLAIN


@_compiled
def _whole(text: Text, at: int, least: int, most: int) -> tuple[int, int]:
    """Return a whole number and where it ends."""
    begin = at + 1 if text[at] == _MINUS else at
    value, end = _digits(text, begin, 0)
    if begin > at:
        value = -value
    digits = end - begin
    if not 1 <= digits <= _MOST_DIGITS or not least <= value <= most:
        return 0, NOT_PLAIN
    if text[begin] == _ZERO and end - at > 1:
        return 0, NOT_PLAIN
    return value, end


@_compiled
def _price(text: Text, at: int) -> tuple[int, int]:
    """Return the bits of a decimal number and where it ends."""
    begin = at + 1 if text[at] == _MINUS else at
    digits, point = _digits(text, begin, 0)
    end, decimals = point, 0
    if text[point] == _POINT:
        digits, end = _digits(text, point + 1, digits)
        decimals = end - point - 1
        if decimals == 0:
            return 0, NOT_PLAIN
    whole = point - begin
    if whole < 1 or whole + decimals > _MOST_DIGITS or digits >= _EXACT:
        return 0, NOT_PLAIN
    if (text[begin] == _ZERO and whole > 1) or (begin > at and digits == 0):
        return 0, NOT_PLAIN
    price = np.float64(digits) / _POWERS[decimals]
    return np.float64(-price if begin > at else price).view(_wide), end


@_compiled
def _digits(text: Text, at: int, value: int) -> tuple[int, int]:
    """Append the digits here to a number; return it, which is wrong beyond 18 of them, and where they end."""
    while _ZERO <= text[at] <= _NINE:
        value = 10 * value + _wide(text[at]) - _ZERO
        at += 1
    return value, at


@_compiled
def _skipped(text: Text, at: int) -> int:
    """Return where a value that nobody asked for ends: a scalar or a list of them."""
    if text[at] != _OPEN_LIST:
        return _scalar_end(text, at)
    if text[at + 1] == _CLOSE_LIST:
        return at + 2
    while True:
        at = _scalar_end(text, at + 1)
        if at == NOT_PLAIN:
            return NOT_PLAIN
        if text[at] == _CLOSE_LIST:
            return at + 1
        if text[at] != _COMMA:
            return NOT_PLAIN


@_compiled
def _scalar_end(text: Text, at: int) -> int:
    if text[at] == _QUOTE:
        return _string_end(text, at)
    for word in (_TRUE, _FALSE, _NULL):
        if _same(text, at, word):
            return at + len(word)
    return _price(text, at)[1]


@_compiled
def _same(text: Text, at: int, wanted: Text) -> bool:
    byte = 0
    while byte < len(wanted) and text[at + byte] == wanted[byte]:
        byte += 1
    return byte == len(wanted)
