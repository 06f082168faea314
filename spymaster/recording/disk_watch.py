"""Looks how much room the disks have, stops what must stop, and lets it go on."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from spymaster.errors import DiskFullError
from spymaster.recording.change import Change
from spymaster.recording.disk import RESUME_ABOVE, Disk, DiskLevel
from spymaster.recording.health import Health
from spymaster.wal.folder import LOG_ALARM_BYTES, log_bytes


class DiskWatch:
    """Asks the disks every now and then, in a thread of its own: its looks wait for no sync."""

    def __init__(
        self, wal_root: Path, data_root: Path, disk: Disk, *, health: Health, change: Change, every_s: float
    ) -> None:
        self._wal_root, self._data_root, self._disk = wal_root, data_root, disk
        self._health, self._change, self._every_s = health, change, every_s
        self._pool = ThreadPoolExecutor(1, "disk")

    def tell(self, before: DiskLevel = DiskLevel.OK) -> None:
        """Say what the disks have, if their level is another than before."""
        level = self._disk.level
        if level != before:
            self._health.journal.event(
                "disk.level", state=level.name.lower(), before=before.name.lower(), text=self._disk.text
            )
            self._health.say(self._disk.text)
        if level >= DiskLevel.BRONZE_STOPPED:
            self._health.problem("disk", self._disk.text, told=True)
        else:
            self._health.mended("disk", told=True)

    def refused(self, error: DiskFullError) -> None:
        """Stop ingest: the disk refused rows for want of room. The next look at it finds when there is room again."""
        before = self._disk.level
        self._disk.refused(error)
        self.tell(before)

    async def run(self, before_rows_go_on: Callable[[Callable[[], None]], Awaitable[None]]) -> None:
        """Look, without end.

        Args:
            before_rows_go_on: calls what it is given once rows may be taken again.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._every_s)
            before = self._disk.level
            if self._disk.settle(await loop.run_in_executor(self._pool, self._disk.look)):
                with suppress(DiskFullError):  # then ingest stays stopped
                    await before_rows_go_on(self._disk.resume)
            self.tell(before)
            await self.look_at_log()
            self._change.happened()

    async def look_at_log(self) -> None:
        """Sound the alarm while the log is too large: a live source goes on, whatever waits for Bronze."""
        try:
            held = await asyncio.get_running_loop().run_in_executor(self._pool, log_bytes, self._wal_root)
        except OSError:
            return  # as with the disks, refusals will tell
        if held > LOG_ALARM_BYTES:
            self._health.alarm(
                "log",
                f"the log {self._wal_root} holds {held / 1e9:.1f} GB, over 1 GB: Bronze is not keeping up or its disk "
                f"refuses. Nothing is lost. Next: check the disk of {self._data_root}",
            )
        elif held < LOG_ALARM_BYTES / RESUME_ABOVE:
            self._health.mended("log")

    def close(self) -> None:
        self._pool.shutdown()
