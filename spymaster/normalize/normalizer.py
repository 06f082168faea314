"""What every normalizer is and gives. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import pyarrow as pa

from spymaster.events import EventSchema

# As it came, and when by our clock: for each message of a delivery, or of a file for none.
Message = tuple[bytes, int | None]
Rows = tuple[EventSchema, pa.RecordBatch]
CROSSED: Final = "crossed quote"  # which bids more than it asks


class Unreadable(NamedTuple):
    """A message that cannot become rows, whole. `byte` is where it begins in the delivery, its header included."""

    data: bytes
    reason: str
    byte: int


class Normalized(NamedTuple):
    """What some messages became: rows in order of arrival within each schema, and what could not become rows.

    `warnings` are lines about what contradicts itself in them, for whoever watches: each kind once in a delivery.
    """

    batches: list[Rows]
    unreadable: list[Unreadable]
    warnings: Sequence[str] = ()


class Normalizer(Protocol):
    """Turns one delivery's bytes into rows. It is made of the delivery's encoding, its origin and `simulated`.

    Attributes:
        version: grows whenever the same bytes become other rows; a file is then captured anew.
        source: the vendor's dataset, as rows name it; `sim` if the delivery is simulated.
        streams: the stream's symbol for every schema that this delivery can give.
        ignored: what is not recorded, counted by the vendor's name for it.
        odd: rows that are recorded as they came though something is wrong with them, counted by what they are, in the
            singular: `crossed quote`.
        unmapped: rows whose instrument nothing named.
    """

    version: int
    source: str
    streams: dict[str, str]
    ignored: Counter[str]
    odd: Counter[str]
    unmapped: int

    def normalize(self, messages: Sequence[Message]) -> Normalized:
        """Turn the next messages of the delivery into rows, the same however many are given at once.

        Raises:
            SourceError: nothing from here on can be read, and no row is lost by it: those of messages before came
                with the calls before, though some were given together with the one that cannot be read.
        """
        ...

    def finish(self) -> None:
        """Check that the delivery ended where it may end.

        Raises:
            SourceError: it did not.
        """
        ...


def grouped(messages: Sequence[Message], most_bytes: int) -> Iterator[Sequence[Message]]:
    """Split messages into runs of at most so many bytes, or of one message that is larger."""
    begin = size = 0
    for number, (data, _) in enumerate(messages):
        if number > begin and size + len(data) > most_bytes:
            yield messages[begin:number]
            begin, size = number, 0
        size += len(data)
    if begin < len(messages):
        yield messages[begin:]
