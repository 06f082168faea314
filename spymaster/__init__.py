"""Records market data so that nothing is lost and everything can be proved.

The route: feeds -> normalize -> recording -> wal -> bus -> lake -> compaction -> query
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spymaster.api import BronzeReader, BronzeWriter, SilverCompactor, SilverReader, WALManager, connect
    from spymaster.query.front_month import ContractSelector

__all__ = [
    "BronzeReader",
    "BronzeWriter",
    "ContractSelector",
    "SilverCompactor",
    "SilverReader",
    "WALManager",
    "connect",
]


def __getattr__(name: str) -> Any:
    """Import the interface on first use: a command line that answers `--help` needs no pandas."""
    if name in __all__:
        home = "spymaster.query.front_month" if name == "ContractSelector" else "spymaster.api"
        return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'spymaster' has no attribute {name!r}")
