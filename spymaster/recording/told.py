"""What the journal says of one delivery."""

from collections.abc import Iterable, Mapping

from spymaster.errors import FeedLostError
from spymaster.events.captures import Capture, CaptureSummary
from spymaster.feeds.feed import Lost
from spymaster.recording.health import Health


class Told:
    """Tells of a capture, each time by its origin and its id."""

    def __init__(self, health: Health, capture: Capture) -> None:
        self._health, self._capture = health, capture

    def known(self, rows: Mapping[str, int]) -> None:
        self._event("capture.known", rows=rows)

    def begun(self, after: Lost | None, *, again: bool) -> None:
        """Tell that it begins, and what was lost before it."""
        streams = [str(stream) for stream in self._capture.streams]
        self._event("capture.begun", source=self._capture.source, streams=streams, again=again)
        if after is not None:
            self._health.reconnects += 1
            self._event("feed.reconnected", cause=after.cause, evidence=after.evidence)

    def refused(self, reason: str) -> None:
        self._event("source.refused", reason=reason)

    def warned(self, lines: Iterable[str]) -> None:
        """Tell what is odd or left out in it, also whoever watches the run without its journal."""
        for line in lines:
            self._event("capture.warned", text=line)
            self._health.say(line)

    def lost(self, lost: FeedLostError) -> None:
        self._event("feed.lost", cause=lost.cause, evidence=lost.evidence)

    def ended(self, summary: CaptureSummary, reason: str | None) -> None:
        self._event(
            "capture.ended",
            complete=summary.complete,
            rows=summary.rows,
            appended=summary.appended,
            given_up=summary.given_up,
            unreadable=summary.unreadable,
            unmapped=summary.unmapped,
            odd=summary.odd,
            reason=reason,
        )

    def _event(self, name: str, **fields: object) -> None:
        self._health.journal.event(name, origin=self._capture.origin, capture_id=self._capture.capture_id, **fields)
