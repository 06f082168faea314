"""Records market data so that nothing is lost and everything can be proved.

The route: feeds -> normalize -> wal -> bus -> lake
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spymaster.api import BronzeReader, BronzeWriter, WALManager

__all__ = ["BronzeReader", "BronzeWriter", "WALManager"]


def __getattr__(name: str) -> Any:
    """Import the interface on first use: a command line that answers `--help` needs no pandas."""
    if name in __all__:
        from spymaster import api  # noqa: PLC0415  # that is the point

        return getattr(api, name)
    raise AttributeError(f"module 'spymaster' has no attribute {name!r}")
