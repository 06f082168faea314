"""Which normalizer reads which encoding."""

from typing import assert_never

import pyarrow as pa

from spymaster.events.encoding import Dbn, Encoding, MassiveDayFile, MassiveFrames, MassivePages
from spymaster.normalize.databento.normalizer import DatabentoNormalizer
from spymaster.normalize.massive.day_files import DayFileNormalizer
from spymaster.normalize.massive.frames import FrameNormalizer
from spymaster.normalize.massive.pages import PageNormalizer
from spymaster.normalize.normalizer import Normalizer


def normalizer_of(
    encoding: Encoding, *, origin: str, simulated: bool = False, defined: pa.Table | None = None
) -> Normalizer:
    """Return what reads a delivery's bytes.

    For Massive's frames a scanner is loaded, and the first time on a machine compiled: some seconds.

    Args:
        encoding: what they are.
        origin: the delivery as a user would name it, for errors.
        simulated: the rows' source is `sim`, not the vendor's dataset.
        defined: rows of `reference.instruments` that name what the header of DBN does not; None if none are known.

    Raises:
        UnsupportedError, SourceError: nothing reads them.
    """
    match encoding:
        case Dbn():
            return DatabentoNormalizer(encoding, origin=origin, simulated=simulated, defined=defined)
        case MassiveFrames():
            return FrameNormalizer(encoding, origin=origin, simulated=simulated)
        case MassivePages():
            return PageNormalizer(encoding, origin=origin, simulated=simulated)
        case MassiveDayFile():
            return DayFileNormalizer(encoding, origin=origin, simulated=simulated)
        case _:
            assert_never(encoding)
