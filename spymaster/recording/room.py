"""Whether rows are taken while disks fill up, and what becomes of those that are not."""

from collections.abc import Callable

import pyarrow as pa

from spymaster.errors import DiskFullError
from spymaster.events import Stream
from spymaster.recording.change import Change
from spymaster.recording.disk import Disk
from spymaster.recording.disk_watch import DiskWatch
from spymaster.recording.given_up import GivenUp
from spymaster.recording.health import Health
from spymaster.recording.own_rows import OwnRows


class Room:
    """What sources ask before they append, and where they turn when the disk is full."""

    def __init__(
        self, disk: Disk, watch: DiskWatch, own: OwnRows, given_up: GivenUp, health: Health, change: Change
    ) -> None:
        self._disk, self._watch, self._own, self._given_up = disk, watch, own, given_up
        self._health, self._change = health, change

    def require(self) -> None:
        """Return unless ingest is stopped.

        Raises:
            DiskFullError: it is.
        """
        if self._disk.ingest_stopped:
            raise DiskFullError(self._disk.text)

    def refused(self, error: DiskFullError) -> None:
        """Stop ingest, where it was not stopped before the rows came."""
        if not self._disk.ingest_stopped:
            self._watch.refused(error)

    async def wait(self, ended: Callable[[], bool]) -> bool:
        """Wait until rows are taken again; False if `ended` was true first.

        Raises:
            StorageError: the disk refused for good.
        """
        await self._change.until(lambda: not self._disk.ingest_stopped or self._health.has_failed or ended())
        self._health.check()
        return not self._disk.ingest_stopped

    async def takes_rows(self) -> bool:
        """Return whether rows are taken, once what lets them in again has ended: a sync of gap rows."""
        await self._own.settled()
        return not self._disk.ingest_stopped

    def give_up(self, stream: Stream, capture_id: int, rows: pa.RecordBatch, next_seq: int) -> None:
        """Count delivered rows that the disk did not take and whose source cannot wait; they become a gap row."""
        self._given_up.add(stream, capture_id, rows, next_seq)
        total = self._given_up.rows[stream]
        self._health.problem(f"given up {stream}", f"{total} rows of {stream} were given up: the log's disk was full")
