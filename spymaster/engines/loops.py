"""The loops that `compiled` compiles: what `Holds`, `aggressor.Memory` and `AsOf` do in numpy, a row at a time.

Bounds are not checked: who calls these has columns of one length.
"""

from typing import Any, Final

import numpy as np
from numba import boolean, float64, int8, int64, types
from numpy.typing import NDArray

from spymaster.engines.aggressor import NO_IV, WEIGHT_BITS
from spymaster.engines.holds import NEUTRAL, NEVER, STATES, VACUUM, VOID, Bytes
from spymaster.engines.ledger import SNAP_NS, Longs

_STATES: Final = len(STATES)


def _read(kind: Any) -> Any:
    return types.Array(kind, 1, "C", readonly=True)


HOLD: Final = types.void(
    int64, _read(int8), _read(int8), boolean, _read(boolean), _read(int64), int64,
    int8[::1], int8[::1], int64[:, ::1], int64[:, ::1], int8[::1], int8[::1], int64[::1],
)  # fmt: skip
FOLLOW: Final = types.void(
    _read(int64), _read(float64), _read(int64), int64,
    int64[::1], int64[::1], float64[::1], int8[::1], int64[::1], int8[::1],
)  # fmt: skip
LOOK_UP: Final = types.void(
    _read(int64), _read(int64), float64[:, ::1], _read(int64), float64[:, ::1],
    _read(int64), _read(int64), boolean, float64[:, ::1],
)  # fmt: skip
AGE: Final = int64(int64[::1], int64[::1], float64[:, ::1], int64[::1], float64[:, ::1], int64)


def hold(
    snap_ns: int, side: Bytes, state: Bytes, by_side: bool, vacant: NDArray[np.bool_], hold_ns: Longs, hole_ns: int,
    last_side: Bytes, last_state: Bytes, begun: Longs, seen: Longs, last_thin: Bytes, last_held: Bytes, since: Longs,
) -> None:  # fmt: skip
    """Bring the memory of levels to a snap, see `Holds.work`; `by_side` where the sides that hold VACUUM are given."""
    for at in range(len(side)):
        now, before = state[at], last_state[at]
        turned = last_side[at] != side[at]
        anew = turned or before == VOID
        if anew:
            for each in range(_STATES):
                if not (by_side and each == VACUUM):
                    seen[at, each] = NEVER
        if not anew or (by_side and before == VACUUM):
            seen[at, before] = snap_ns - SNAP_NS
        thin = side[at] if now == VACUUM else last_thin[at]
        if snap_ns - SNAP_NS - seen[at, now] > hole_ns or (now == VACUUM and thin != last_thin[at]):
            begun[at, now] = snap_ns
        seen[at, now] = snap_ns
        shown, ready = now, now > NEUTRAL and snap_ns - begun[at, now] >= hold_ns[now]
        if by_side and (now == VACUUM or not ready):
            shown, ready = np.int8(VACUUM), vacant[thin] and snap_ns - seen[at, VACUUM] <= hole_ns
        was = last_held[at]
        if now == VOID:
            held = np.int8(VOID)
        elif ready:
            held = shown
        elif not turned and was > NEUTRAL and snap_ns - seen[at, was] <= hole_ns:
            held = was
        else:
            held = np.int8(NEUTRAL)
        stayed = since[at] if held == was and not turned else snap_ns
        since[at] = begun[at, held] if held > NEUTRAL else stayed
        last_side[at], last_state[at], last_thin[at], last_held[at] = side[at], now, thin, held


def follow(
    slot: Longs, price: NDArray[np.float64], iv: Longs, least_weight: int,
    means: Longs, seen: Longs, prices: NDArray[np.float64], ticks: Bytes, mean: Longs, tick: Bytes,
) -> None:  # fmt: skip
    """Write each print's mean before it and its tick, and bring the memory to it, see `Memory.follow`."""
    for at in range(len(slot)):
        here = slot[at]
        stood = mean[at] = means[here]
        if iv[at] != NO_IV:
            seen[here] += 1
            weight = max(least_weight, (1 << WEIGHT_BITS) // seen[here])
            moved = stood + (((iv[at] - stood) * weight + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS)
            means[here] = iv[at] if seen[here] == 1 else moved
        if price[at] > prices[here]:
            ticks[here] = 1
        elif price[at] < prices[here]:
            ticks[here] = -1
        prices[here], tick[at] = price[at], ticks[here]


def look_up(
    kept: Longs, kept_ns: Longs, values: NDArray[np.float64], old_ns: Longs, old: NDArray[np.float64],
    key: Longs, ts_ns: Longs, included: bool, found: NDArray[np.float64],
) -> None:  # fmt: skip
    """Write the latest values of keys, see `AsOf.at`; of keys without one nothing is written."""
    for at in range(len(key)):
        asked, last_ns = key[at], ts_ns[at] if included else ts_ns[at] - 1
        low, high = 0, len(kept)
        while low < high:
            middle = (low + high) // 2
            if kept[middle] < asked or (kept[middle] == asked and kept_ns[middle] <= last_ns):
                low = middle + 1
            else:
                high = middle
        if low > 0 and kept[low - 1] == asked:
            found[at] = values[low - 1]
        elif asked < len(old_ns) and old_ns[asked] <= last_ns:
            found[at] = old[asked]


def age(
    kept: Longs, kept_ns: Longs, values: NDArray[np.float64], old_ns: Longs, old: NDArray[np.float64], before_ns: int
) -> int:
    """Let rows from before a time be old ones and close up the others, see `AsOf.age`; return how many these are."""
    left = 0
    for at in range(len(kept)):
        key = kept[at]
        if kept_ns[at] >= before_ns:
            kept[left], kept_ns[left], values[left] = key, kept_ns[at], values[at]
            left += 1
        elif kept_ns[at] >= old_ns[key]:
            old[key], old_ns[key] = values[at], kept_ns[at]
    return left
