"""One capture's rows of one stream, appended by hand to a recorder, as a program does."""

import pyarrow as pa

from spymaster.events import Stream
from spymaster.events.captures import Capture
from spymaster.recording.capture import OpenCapture
from spymaster.recording.lane import Lane
from spymaster.recording.recorder import Recorder


class Rows:
    """What is appended, and the stream's lane."""

    def __init__(self, opened: OpenCapture, stream: Stream, lane: Lane) -> None:
        self.lane = lane
        self._opened, self._stream = opened, stream

    async def append(self, batch: pa.RecordBatch) -> None:
        await self._opened.append(self._stream.schema, batch)

    @property
    def next_seq(self) -> int:
        return self._opened.next_seq(self._stream.schema)


async def capture_rows(recorder: Recorder, stream: Stream, capture_id: int) -> Rows:
    """Open a stream for one capture, which has no begin on record."""
    recorder.room.require()
    opened = recorder.capture(Capture(capture_id, "sim", "sim", None, 1, (stream,)))
    return Rows(opened, stream, await recorder.lane(stream))
