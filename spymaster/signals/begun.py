"""What a session's judge is begun with, and the code that judges: what its snaps depend on beside the session's rows.

It is recorded with the session's first snap. What earlier sessions leave would be another today, had one of them been
healed since; the live run did not know that.
"""

import hashlib
import json
from functools import cache
from importlib import import_module, resources
from pkgutil import iter_modules
from typing import Any, Final, NamedTuple

import numpy as np

from spymaster.engines.market import Earlier
from spymaster.engines.typical import Norms

_HASH_DIGITS: Final = 16
_ROOM: Final = "spymaster.engines"
_FILES: Final = (
    "spymaster.lake.gold",
    "spymaster.signals.payload",
    "spymaster.signals.sight",
)  # of a snap, what is kept


class Begun(NamedTuple):
    """What a judge is begun with.

    Attributes:
        contract: the front month.
        since_ns: its rows begin there, though the session had begun; None where they begin with the session.
        earlier: what the session takes over from the one before; None where nothing is known of it.
        seed: what was typical in earlier sessions; None where nothing is known.
        profile_hash: of the numbers.
        code_hash: of the code.
    """

    contract: str
    since_ns: int | None
    earlier: Earlier | None
    seed: Norms | None
    profile_hash: str
    code_hash: str

    def to_json(self) -> str:
        """Return it as it is recorded."""
        seed = None if self.seed is None else {**self.seed._asdict(), "sizes": self.seed.sizes.tolist()}
        earlier = None if self.earlier is None else self.earlier._asdict()
        return json.dumps({**self._asdict(), "earlier": earlier, "seed": seed}, sort_keys=True)


def begun_of(text: str) -> Begun:
    """Return what `Begun.to_json` made a text of."""
    found: dict[str, Any] = json.loads(text)
    earlier, seed = found.pop("earlier"), found.pop("seed")
    return Begun(
        **found,
        earlier=None if earlier is None else Earlier(**{**earlier, "closes": tuple(earlier["closes"])}),
        seed=None if seed is None else Norms(**{**seed, "sizes": np.asarray(seed["sizes"], np.int64)}),
    )


@cache
def code_hash() -> str:
    """Return 64 bits of SHA-256 over the sources that decide what a snap says, as 16 hexadecimal digits."""
    found = hashlib.sha256()
    modules = [f"{_ROOM}.{module.name}" for module in iter_modules(import_module(_ROOM).__path__)]
    for module in sorted([*modules, *_FILES]):
        room, _, name = module.rpartition(".")
        text = (resources.files(room) / f"{name}.py").read_bytes()
        found.update(f"{module} {len(text)}\n".encode() + text)
    return found.hexdigest()[:_HASH_DIGITS]
