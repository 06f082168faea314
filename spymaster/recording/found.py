"""What the journal says of what a start found."""

from typing import Final

from spymaster.recording.health import Health
from spymaster.recording.recovery import Recovered

MAX_TOLD_HOLES: Final = 10  # of a recovery, and notes on files; `system.gaps` has all holes


def tell_found(recovered: Recovered, health: Health, seconds: float) -> None:
    """Say what the start found, and now of damage what the exit code says only once the run is over."""
    found = recovered.salvage
    health.journal.event(
        "recovery.found",
        rows=found.rows,
        segments=len(found.sealed),
        torn_bytes=found.torn_bytes,
        missing=len(found.holes),
        seconds=round(seconds, 3),
    )
    for note in found.notes[:MAX_TOLD_HOLES]:
        health.journal.event("recovery.note", text=note)
    holes = [hole for hole in found.holes if hole.acknowledged]
    for hole in holes[:MAX_TOLD_HOLES]:
        _alarm_of_damage(
            health,
            f"damage {hole.gap_id}",
            f"acknowledged rows were found damaged: {hole.describe()}. The sound rows are in Bronze, the bytes in "
            f"quarantine. Next: spymaster verify",
        )
    if (rest := len(holes) - MAX_TOLD_HOLES) > 0:
        _alarm_of_damage(health, "damage", f"acknowledged rows were found damaged in {rest} more places")


def _alarm_of_damage(health: Health, about: str, line: str) -> None:
    health.journal.event("damage.found", about=about, text=line)
    health.alarm(about, line, told=True)
