"""What a crash left in the log -> Bronze. Salvage first, then publish what the lake has not got, then retire."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spymaster.lake.bronze import Part, remove_drafts
from spymaster.lake.catalog import Catalog
from spymaster.recording.disk import require_room_to_recover
from spymaster.recording.flush import flush
from spymaster.wal.recovery import Salvage, salvage


@dataclass(frozen=True)
class Recovered:
    """What a recovery did.

    Attributes:
        salvage: what it found in the log.
        parts: the Bronze parts it published.
    """

    salvage: Salvage
    parts: list[Part]

    @property
    def rows(self) -> int:
        """Rows it published; fewer than it found where a crash came between publishing and retiring."""
        return sum(part.rows for part in self.parts)

    @property
    def exit_code(self) -> int:
        """0 clean or torn tails only, 3 acknowledged rows were newly found damaged."""
        return 3 if self.salvage.acknowledged_damage else 0


def recover(
    wal_root: Path, catalog: Catalog, bronze: Path, run_capture: int, progress: Callable[[int, int], None] | None = None
) -> Recovered:
    """Drain everything that a crash left under `wal_root` into Bronze. The caller holds the locks.

    Running it again changes nothing; it may be killed anywhere.

    Args:
        wal_root: the log.
        catalog: the lake's index.
        bronze: the tier's folder.
        run_capture: the capture of this process run, for gap rows.
        progress: called with (segments done, segments in all).

    Raises:
        DiskFullError: the disk is too full to begin; nothing was changed.
        OSError: the disk refused; what is not in Bronze is still in the log.
    """
    require_room_to_recover(wal_root, bronze)
    found = salvage(wal_root, run_capture, catalog.gap_ids())
    remove_drafts(bronze)
    parts: list[Part] = []
    behind = False
    for done, segment in enumerate(found.sealed):
        flushed = flush(bronze, catalog, segment, again=True)
        if flushed.lingering is not None:
            raise flushed.lingering  # what a failed sync says is told, though nothing is lost
        parts += flushed.parts
        behind |= flushed.behind is not None
        if progress is not None:
            progress(done + 1, len(found.sealed))
    if behind:
        catalog.refresh()
    return Recovered(found, parts)
