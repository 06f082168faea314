"""A session judged again: a scratch Gold, and a certificate of what came of what.

The certificate says which inputs, which numbers and which code gave which outputs; no clock, no host and no path is in
it, so that anybody who has the rows can make the same. It names the certificate of the session before, if that session
was replayed: what it hands on (the prior day's levels, averages) is an input too.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from spymaster import clock, durable
from spymaster.engines.ledger import SNAP_NS, Body
from spymaster.engines.profile import Profile
from spymaster.engines.session import Session
from spymaster.engines.snap import Snap
from spymaster.events.snaps import SNAP
from spymaster.lake import gold
from spymaster.lake.gold import DAEMON_ROWS, DAEMON_SPAN_S, GOLD, Parts
from spymaster.signals import payload
from spymaster.signals.begun import code_hash
from spymaster.signals.digest import Digest
from spymaster.signals.earlier import sessions_before
from spymaster.signals.past import Past
from spymaster.signals.sight import Sight
from spymaster.signals.start import footer_of

FORMAT: Final = 1
MOST_VOIDS: Final = 100  # spans that are named; beyond, they are counted
_AT_ONCE: Final = 64  # snaps: 16 s of a session
_FOLDER: Final = "replay"
_CERTIFICATE: Final = "certificate.json"

Shown = Callable[[Snap], None]


class Void(NamedTuple):
    """Snaps one behind the other that are void whole, for one reason."""

    first_ns: int
    last_ns: int
    reason: str
    snaps: int


class Replayed(NamedTuple):
    """What a replay made.

    Attributes:
        folder: where its Gold lies, as in a lake of its own.
        certificate: what came of what.
    """

    folder: Path
    certificate: Mapping[str, Any]


def folder_of(data_root: Path, profile: str, date: str) -> Path:
    """Return where the replay of a session is written."""
    return data_root / _FOLDER / profile / date


def replay(
    data_root: Path,
    wal_root: Path,
    profile: Profile,
    session: Session,
    *,
    shown: Shown = lambda snap: None,
    body: Body | None = None,
) -> Replayed:
    """Judge a session again. What an earlier replay of it wrote is replaced; recorded Gold is left as it is.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: the numbers.
        session: the session.
        shown: called with each snap that is published.
        body: of the ledger; the fastest if None.

    Raises:
        SpymasterError, OSError: log or lake cannot be read, or the scratch Gold cannot be written.
    """
    folder = folder_of(data_root, profile.name, session.date)
    for file in durable.files_below(folder):
        durable.remove(file)
    past, sight, outputs = Past(data_root, wal_root, profile, session, body=body), Sight(), _Outputs()
    with _Scratch(folder, profile) as scratch:
        for mark, snap in past.snaps():
            if snap is None:
                scratch.cut()
                continue
            seen = sight.rows(snap)
            if mark == SNAP:
                outputs.add(snap)
                scratch.add(snap, seen)
                shown(snap)
        rows = scratch.end()
    certificate = _certificate(data_root, profile, session, past, outputs, rows)
    durable.make_directories(folder)
    durable.rewrite(json.dumps(certificate, indent=1, sort_keys=True).encode(), folder / _CERTIFICATE)
    return Replayed(folder, certificate)


class _Scratch:
    """The Gold of a replay, made some snaps at a time in a thread, while the next ones are judged.

    Raises:
        SpymasterError, OSError: from each method, that it cannot be written.
    """

    def __init__(self, folder: Path, profile: Profile) -> None:
        self._folder, self._profile, self._footer = folder, profile, footer_of(profile)
        self._parts = Parts(DAEMON_SPAN_S * clock.NS_PER_SECOND, DAEMON_ROWS)
        self._rows = Digest(GOLD)
        self._waiting: list[tuple[Snap, pa.RecordBatch]] = []
        self._thread = ThreadPoolExecutor(1, "scratch")
        self._making: Future[None] | None = None

    def __enter__(self) -> "_Scratch":
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def add(self, snap: Snap, levels: pa.RecordBatch) -> None:
        """Take a snap with its levels in sight."""
        self._waiting.append((snap, levels))
        if len(self._waiting) >= _AT_ONCE:
            self._begin(cut=False)

    def cut(self) -> None:
        """End a part here."""
        self._begin(cut=True)

    def end(self) -> Digest:
        """Publish what there is; return the digest of all rows."""
        self._begin(cut=True)
        self._finish()
        return self._rows

    def _begin(self, *, cut: bool) -> None:
        """Let what waits be made, behind what is."""
        self._finish()
        self._making = self._thread.submit(self._make, self._waiting, cut)
        self._waiting = []

    def _finish(self) -> None:
        if self._making is not None:
            self._making.result()

    def _make(self, seen: list[tuple[Snap, pa.RecordBatch]], cut: bool) -> None:
        finished: list[pa.Table] = []
        if seen:
            rows = payload.rows_of(seen, self._profile.market.underlying, self._profile.name)
            self._rows.add(rows)
            finished = self._parts.put(rows)
        if cut and (rest := self._parts.cut()) is not None:
            finished.append(rest)
        for table in finished:
            gold.publish(self._folder, table, self._footer)


class _Outputs:
    """The published snaps, and which were void."""

    def __init__(self) -> None:
        self.snaps = self.void_snaps = self.void_spans = 0
        self.voids: list[Void] = []
        self._last: Void | None = None

    def add(self, snap: Snap) -> None:
        self.snaps += 1
        if snap.void_reason is None:
            self._last = None
            return
        self.void_snaps += 1
        last = self._last
        if last is not None and last.reason == snap.void_reason:
            self._last = last._replace(last_ns=snap.snap_ns, snaps=last.snaps + 1)
            if self.void_spans <= MOST_VOIDS:
                self.voids[-1] = self._last
            return
        self._last = Void(snap.snap_ns, snap.snap_ns, snap.void_reason, 1)
        self.void_spans += 1
        if self.void_spans <= MOST_VOIDS:
            self.voids.append(self._last)


def _certificate(
    data_root: Path, profile: Profile, session: Session, past: Past, outputs: _Outputs, rows: Digest
) -> dict[str, Any]:
    begun = past.begun if outputs.snaps or past.recorded else None
    said: dict[str, Any] = {
        "format": FORMAT,
        "session": session.date,
        "profile": profile.name,
        "profile_hash": profile.profile_hash,
        "code_hash": code_hash(),
        "gold_version": gold.VERSION,
        "snap_ns": SNAP_NS,
        "contract": past.contract,
        "snaps_by": "record" if past.recorded else "known time",
        "begun": None if begun is None else hashlib.sha256(begun.to_json().encode()).hexdigest(),
        "inputs": [
            {"schema": schema, "capture_id": capture, **own._asdict()}
            for (schema, capture), own in past.inputs().items()
        ],
        "outputs": {"snaps": outputs.snaps, "rows": rows.rows, "sha256": rows.hexdigest()},
        "void": {
            "snaps": outputs.void_snaps,
            "spans": outputs.void_spans,
            "named": [void._asdict() for void in outputs.voids],
        },
        "before": _before(data_root, profile, session),
    }
    whole = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return {**said, "sha256": hashlib.sha256(whole).hexdigest()}


def _before(data_root: Path, profile: Profile, session: Session) -> str | None:
    """Return the hash of the certificate of the session before; None where that was not replayed."""
    for past, in_calendar in sessions_before(session, profile):
        with suppress(FileNotFoundError):
            text = durable.read(folder_of(data_root, profile.name, past.date) / _CERTIFICATE)
            found: str = json.loads(bytes(text))["sha256"]
            return found
        if in_calendar:
            return None
    return None
