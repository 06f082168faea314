"""Records market data so that nothing is lost and everything can be proved.

The route: feeds -> normalize -> recording -> wal -> bus -> lake -> compaction -> query
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spymaster.api.compaction import SilverCompactor
    from spymaster.api.gold import GoldWriter
    from spymaster.api.log import WALManager
    from spymaster.api.readers import BronzeReader, GoldReader, SilverReader, connect
    from spymaster.api.writer import BronzeWriter
    from spymaster.query.front_month import ContractSelector

__all__ = [
    "BronzeReader",
    "BronzeWriter",
    "ContractSelector",
    "GoldReader",
    "GoldWriter",
    "SilverCompactor",
    "SilverReader",
    "WALManager",
    "connect",
]

_HOMES = {
    "BronzeReader": "spymaster.api.readers",
    "BronzeWriter": "spymaster.api.writer",
    "ContractSelector": "spymaster.query.front_month",
    "GoldReader": "spymaster.api.readers",
    "GoldWriter": "spymaster.api.gold",
    "SilverCompactor": "spymaster.api.compaction",
    "SilverReader": "spymaster.api.readers",
    "WALManager": "spymaster.api.log",
    "connect": "spymaster.api.readers",
}


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use: a command line that answers `--help` needs no pandas."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'spymaster' has no attribute {name!r}")
