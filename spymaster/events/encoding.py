"""What the bytes of a delivery are, and exactly what reading them needs beside themselves.

Whoever makes a delivery says it; `normalize` has one reader for each. None of them can be told from the bytes alone.
"""

from dataclasses import dataclass
from typing import Literal

from spymaster.events.schema import EventSchema


@dataclass(frozen=True)
class Dbn:
    """Databento's records, one after another.

    Attributes:
        header: the metadata header, bytes from `DBN` to its end.
        symbols_in_stream: what in-stream symbol mappings say, found by a look ahead where the header has none.
    """

    header: bytes
    symbols_in_stream: tuple[str, ...] = ()


@dataclass(frozen=True)
class MassiveFrames:
    """Frames of Massive's websocket, a message each.

    Attributes:
        cluster: which of its servers sends them, as the same letters mean other events on each.
        symbol: the one root that was subscribed, which names the streams; `ALL` for several.
    """

    cluster: Literal["stocks", "options"]
    symbol: str


@dataclass(frozen=True)
class MassivePages:
    """Pages of Massive's REST interface, a message each: of one request and its continuations.

    Attributes:
        schema: what the results are.
        ticker: what was asked for, as trades and quotes do not repeat it; empty where the request named none.
        symbol: the root that names the stream; `ALL` for several.
    """

    schema: EventSchema
    ticker: str
    symbol: str


@dataclass(frozen=True)
class MassiveDayFile:
    """Lines of one of Massive's day files.

    Attributes:
        header: the line of column names, with its end.
        tickers: of the file's lines, in order: one of the first root and one of the second, if there is one.
    """

    header: bytes
    tickers: tuple[str, ...] = ()


Encoding = Dbn | MassiveFrames | MassivePages | MassiveDayFile
