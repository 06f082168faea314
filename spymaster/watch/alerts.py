"""What is told: recorded, kept for the page, posted. In that order, so that nobody sees an alert that a kill takes."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import pyarrow as pa

from spymaster import clock
from spymaster.errors import StorageError
from spymaster.events import SYSTEM_ALERTS, EventSchema
from spymaster.events.alerts import TOLD, Alert, alert_rows
from spymaster.journal import Journal
from spymaster.watch.documents import AlertDocument
from spymaster.watch.past import MOST_ALERTS, alert_document
from spymaster.watch.rules import LIMIT, Rules
from spymaster.watch.webhook import Webhook

MAX_WAITING: Final = 1_000  # that are not on record; more of them than a minute may have are not made
MINUTE_S: Final = 60.0
WEBHOOK: Final = "webhook"  # the problem that its own alert is not posted of
_KNOWN: Final = 10_000  # ids that were told; the oldest go
_JOURNALED: Final = frozenset({"silent", "lag", "roll", "halt", "void", LIMIT})  # others have events of their own


class Append(Protocol):
    """Makes rows of our own durable and publishes them; see `OwnRows.append`."""

    def __call__(self, schema: EventSchema, rows: pa.RecordBatch, *, in_reserve: bool) -> Awaitable[None]: ...


class Alerts:
    """Takes transitions as they are found, and tells them one after another.

    Attributes:
        newest: what was told, oldest first; at most `MOST_ALERTS`.
    """

    def __init__(self, rules: Rules, append: Append, journal: Journal, webhook: Webhook | None) -> None:
        self.newest: deque[AlertDocument] = deque(maxlen=MOST_ALERTS)
        self._rules, self._append, self._journal, self._webhook = rules, append, journal, webhook
        self._known: dict[int, None] = {}
        self._waiting: deque[Alert] = deque(maxlen=MAX_WAITING)
        self._changed = asyncio.Event()
        self._ending = False
        self._minute_s, self._told, self._left_out = clock.monotonic_s(), 0, 0

    def remember(self, earlier: Sequence[AlertDocument]) -> None:
        """Take alerts of earlier runs, oldest first: they are shown, and not told again."""
        self._known |= dict.fromkeys(int(alert["alert_id"]) for alert in earlier)
        told = list(self.newest)
        own = {alert["alert_id"] for alert in told}  # some of this run's may have been read as well
        self.newest.clear()
        self.newest.extend([*(alert for alert in earlier if alert["alert_id"] not in own), *told])

    def put(self, alert: Alert) -> None:
        """Tell a transition, unless a rule says no, it was told before, or the minute has had too many."""
        self.turn()
        if not self._rules.tells(alert.kind) or alert.alert_id in self._known:
            return
        self._known[alert.alert_id] = None
        if len(self._known) > _KNOWN:
            del self._known[next(iter(self._known))]
        if self._told >= self._rules.most_a_minute:
            self._left_out += 1
            return
        self._told += 1
        self._queue(alert)

    def turn(self) -> None:
        """Begin the next minute when it is time, and say how many the one before has left out."""
        at_s = clock.monotonic_s()
        if at_s - self._minute_s >= MINUTE_S:
            self._minute_s, self._told = at_s, 0
            self._say_left_out()

    def _say_left_out(self) -> None:
        count, self._left_out = self._left_out, 0
        if count:
            text = f"{count} more alerts came within a minute and are left out"
            self._queue(Alert(LIMIT, TOLD, "alerts", clock.utc_now_ns(), text, value=float(count)))

    def _queue(self, alert: Alert) -> None:
        self._waiting.append(alert)
        self._changed.set()

    def finish(self) -> None:
        """Let `run` end once what waits is told."""
        self._say_left_out()
        self._ending = True
        self._changed.set()

    async def run(self) -> None:
        """Tell until `finish`."""
        while self._waiting or not self._ending:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            alerts = list(self._waiting)
            self._waiting.clear()
            at_ns = clock.utc_now_ns()
            await self._record(alerts, at_ns)
            for alert in alerts:
                self._tell(alert, alert_document(alert, alert.alert_id, at_ns))

    async def _record(self, alerts: Sequence[Alert], at_ns: int) -> None:
        """Make them durable. What a full disk keeps for the end is given to those alone that say it is full."""
        urgent = any(alert.kind == "disk" for alert in alerts)
        with suppress(StorageError):  # the recorder says so itself, and it is the less reason to keep silent here
            await self._append(SYSTEM_ALERTS, alert_rows(alerts, at_ns), in_reserve=urgent)

    def _tell(self, alert: Alert, document: AlertDocument) -> None:
        self.newest.append(document)
        if alert.kind in _JOURNALED:
            self._journal.event("alert.given", kind=alert.kind, state=alert.state, of=alert.subject, text=alert.text)
        if self._webhook is not None and self._rules.posts(alert.kind) and alert.subject != WEBHOOK:
            self._webhook.put(document)
