"""Plain loops compiled by numba, each beside a body in numpy with the same bits, for where a snap has few rows.

Numba keeps what it compiled on disk, and a cache that cannot be used is done without. Where numba has no package there
is nothing compiled, and numpy's bodies are used.
"""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple


class Loops(NamedTuple):
    """The compiled loops; each changes arrays in place as its module says."""

    hold: Callable[..., None]
    follow: Callable[..., None]
    look_up: Callable[..., None]
    age: Callable[..., int]


@lru_cache(maxsize=1)
def loops() -> Loops | None:
    """Return the loops, compiled, which takes seconds, or from numba's cache; None where numba has no package."""
    if importlib.util.find_spec("numba") is None:
        return None
    from spymaster.engines import loops as plain  # noqa: PLC0415 - loading numba takes most of a second

    return Loops(
        compiled(plain.hold, plain.HOLD), compiled(plain.follow, plain.FOLLOW),
        compiled(plain.look_up, plain.LOOK_UP), compiled(plain.age, plain.AGE),
    )  # fmt: skip


def compiled(function: Callable[..., Any], signature: Any) -> Any:
    """Compile a function for one signature, now."""
    from numba import njit  # noqa: PLC0415 - as above

    try:
        return njit(signature, cache=True, nogil=True, error_model="numpy")(function)
    except Exception:  # noqa: BLE001 - of a bad cache it may be any; without one the same is tried again, unguarded
        return njit(signature, cache=False, nogil=True, error_model="numpy")(function)
