"""What happened in a run, a line each, under names that stay. (`log` means the write-ahead log in this house.)

    2026-11-30T12:00:00.123456Z info    capture.begun origin=sim-es capture_id=42 source=sim streams=futures.trades/ES

is a time, a level, an event of `EVENTS` and its fields; with `LOG_FORMAT=json` it is one JSON object. A value that is
no plain word is a JSON string, so that an event is one line whatever a vendor sends. A field that does not apply is
left out, in JSON null.

Nobody waits for the journal. `event` puts a few values into a queue, and a thread of the journal's own writes them: a
paused terminal or a failing disk may hold a write up for ever. Who loses is the line, and `journal.lost` counts it.
"""

import json
import queue
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from os import W_OK, access
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from spymaster import clock
from spymaster.errors import UsageError

Form = Literal["text", "json"]

MAX_WAITING: Final = 1_000  # lines that are not written yet; beyond, the new ones are lost
MAX_A_MINUTE: Final = 6  # lines about one thing; beyond, only the last is written, once the minute is over
MAX_THINGS: Final = 1_000  # that are counted so at a time; beyond, the oldest are counted anew
MAX_CHARACTERS: Final = 2_000  # of one text
FILE_BYTES: Final = 10_000_000  # then the next file of `LOG_FILE` begins
FILES: Final = 5  # LOG_FILE, LOG_FILE.1, ...; the oldest goes
CLOSE_S: Final = 2.0  # how long the last lines may take
_TICK_S: Final = 0.5
_MINUTE_S: Final = 60.0


class Event(NamedTuple):
    """A kind of line.

    Attributes:
        level: how bad it is.
        meaning: when it is written.
        fields: what it says; a line may lack those that do not apply.
        about: the field that names its thing, where `MAX_A_MINUTE` counts each apart.
    """

    level: Literal["info", "warning", "error"]
    meaning: str
    fields: tuple[str, ...]
    about: str | None = None


EVENTS: Final[Mapping[str, Event]] = {
    "run.started": Event(
        "info",
        "a daemon holds the locks; it makes the log sound next",
        ("version", "pid", "wal_root", "data_root"),
    ),
    "recovery.found": Event(
        "info",
        "the log is sound: what an earlier process had left in it goes to Bronze while this one records",
        ("rows", "segments", "torn_bytes", "missing", "seconds"),
    ),
    "recovery.note": Event("info", "a file of the log was not simply sound; at most 10", ("text",), "text"),
    "recovery.done": Event("info", "what was found is in Bronze", ("rows", "parts", "seconds")),
    "damage.found": Event(
        "error", "acknowledged rows do not read; at most 10, and one for the rest", ("about", "text"), "about"
    ),
    "recording.began": Event("info", "the sources are opened", ("sources", "speed", "duration_s")),
    "capture.known": Event(
        "info", "a file that the lake holds whole was not read again", ("origin", "capture_id", "rows"), "origin"
    ),
    "capture.begun": Event(
        "info",
        "a delivery's begin is durable; `again` if an earlier run had begun it",
        ("origin", "capture_id", "source", "streams", "again"),
        "origin",
    ),
    "capture.ended": Event(
        "info",
        "a delivery's end is durable; `reason` says why it is not complete",
        ("origin", "capture_id", "complete", "rows", "appended", "given_up", "unreadable", "unmapped", "odd", "reason"),
        "origin",
    ),
    "capture.warned": Event(
        "warning",
        "a delivery contradicts itself, has numbers of unknown meaning or quotes that are left out; each once",
        ("origin", "capture_id", "text"),
        "text",
    ),
    "source.refused": Event(
        "warning", "a delivery or the rest of it cannot be read", ("origin", "capture_id", "reason"), "origin"
    ),
    "feed.lost": Event(
        "warning", "a connection to a vendor is gone", ("origin", "capture_id", "cause", "evidence"), "origin"
    ),
    "feed.reconnected": Event(
        "info",
        "a delivery begins after others of its feed were lost",
        ("origin", "capture_id", "cause", "evidence"),
        "origin",
    ),
    "gap.recorded": Event(
        "warning",
        "rows are known to be missing, and `system.gaps` says so",
        ("stream", "cause", "rows", "text"),
        "stream",
    ),
    "quarantine.began": Event(
        "warning",
        "the first message of a capture that does not read; `capture.ended` counts them",
        ("origin", "capture_id", "reason", "folder"),
        "origin",
    ),
    "bronze.refused": Event(
        "warning",
        "a segment did not get into Bronze and waits in the log; its later tries are not told",
        ("segment", "reason"),
        "segment",
    ),
    "bronze.foreign": Event("warning", "files in the lake that are not ours are passed over", ("text",)),
    "disk.level": Event(
        "warning",
        "the room on the disks has another level: `ok`, `warn`, `bronze_stopped`, `ingest_stopped`",
        ("state", "before", "text"),
    ),
    "alarm.raised": Event("warning", "something is not right, and the recording goes on", ("about", "text"), "about"),
    "alarm.mended": Event("info", "it is right again", ("about",), "about"),
    "judge.began": Event(
        "info",
        "levels are judged; `because` says what the choice of the contract rests on",
        ("profile", "session", "contract", "because", "seconds"),
    ),
    "signal.changed": Event(
        "info",
        "a level has another signal: BREAK, REJECT, CONTESTED or NEUTRAL",
        ("of_level", "signal", "before", "snap", "spot"),
        "of_level",
    ),
    "alert.given": Event(
        "info",
        "an alert of a kind that no other event tells: a silent stream, a lag, a roll, a halt, void signals",
        ("kind", "state", "of", "text"),
        "of",
    ),
    "watch.blind": Event(
        "warning", "what earlier runs recorded does not read: the page lacks their gaps and alerts", ("text",)
    ),
    "day.summary": Event(
        "info",
        "a UTC day is over, or the run: what was appended to each stream since the summary before, Bronze parts "
        "written, gap rows among them, rows that live readers were too slow for, the longest sync",
        ("date", "rows", "parts", "gaps", "dropped", "longest_sync_ms"),
    ),
    "gateway.opened": Event(
        "info", "the page is served; `wanted` is the port that was asked for and is taken", ("url", "wanted")
    ),
    "gateway.warned": Event("warning", "what serves the page was asked what it does not understand", ("text",)),
    "run.stopping": Event("info", "the run is to end: it drains", ("reason",)),
    "run.drained": Event("info", "the log's rows are in Bronze, but for so many segments", ("waiting", "seconds")),
    "run.ended": Event(
        "info",
        "the locks are free; `error` is what ended the run early",
        ("seconds", "rows", "parts", "problems", "error"),
    ),
    "journal.lost": Event("warning", "so many lines were not written, or late", ("lines",)),
}


class _Happened(NamedTuple):
    at_ns: int
    name: str
    fields: dict[str, object]

    @property
    def thing(self) -> tuple[str, object]:
        """What it is about. An alarm that is raised and mended is one thing, and its last state is told."""
        about = EVENTS[self.name].about
        return self.name.partition(".")[0], None if about is None else self.fields[about]


class Journal:
    """Writes events, for whoever follows a run. One process has one."""

    def __init__(
        self, write: Callable[[str], None] | None = None, form: Form = "text", secrets: Collection[str] = ()
    ) -> None:
        """Start the thread that writes; the caller ends it with `close`.

        Args:
            write: takes a line, and may wait or raise OSError or ValueError; None keeps no journal.
            form: of a line.
            secrets: what no line may hold.
        """
        self._write, self._form, self._secrets = write, form, secrets
        self._queue: queue.Queue[_Happened | None] = queue.Queue(MAX_WAITING)
        self._turned_away = 0  # events, as the queue was full
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)  # a stuck one holds up no exit
        if write is not None:
            self._thread.start()

    def event(self, name: str, **fields: object) -> None:
        """Write an event. It waits for nothing.

        Args:
            name: of `EVENTS`.
            fields: those of the event, all of them; None where one does not apply.
        """
        if self._write is not None:
            try:
                self._queue.put_nowait(_Happened(clock.utc_now_ns(), name, fields))
            except queue.Full:
                self._turned_away += 1

    def close(self) -> bool:
        """Write what waits, for at most `CLOSE_S` or twice that; return whether nothing writes any more."""
        if self._write is None:
            return True
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return False
        self._thread.join(CLOSE_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        line_of, pace = _renderer(self._form, self._secrets), _Pace()
        failed = told = 0
        happened: _Happened | None = None
        ended = False
        while not ended:
            try:
                happened = self._queue.get(timeout=_TICK_S)
                ended = happened is None
            except queue.Empty:
                happened = None
            now_s = clock.monotonic_s()
            ready = [*pace.over(now_s, every=ended), *([] if happened is None else pace.taken(happened, now_s))]
            failed += sum(not self._written(line_of(each)) for each in ready)
            if lost := failed + self._turned_away - told:
                line = line_of(_Happened(clock.utc_now_ns(), "journal.lost", {"lines": lost}))
                told += lost if self._written(line) else 0

    def _written(self, line: str) -> bool:
        assert self._write is not None  # noqa: S101  # else there is no thread
        try:
            self._write(line)
        except (OSError, ValueError):  # a full disk, a reader that went away: who loses is the line
            return False
        return True


SILENT: Final = Journal()


@dataclass
class _Minute:
    ends_s: float
    told: int
    held: _Happened | None = None  # the newest that is not told
    omitted: int = 0


class _Pace:
    """Lets `MAX_A_MINUTE` events about one thing pass, and of more the last, so that what flaps does not flood.

    The last, because it says how things are now.
    """

    def __init__(self) -> None:
        self._minutes: dict[tuple[str, object], _Minute] = {}

    def taken(self, happened: _Happened, now_s: float) -> Iterator[_Happened]:
        """Take an event, and yield what is to be written now."""
        minute = self._minutes.get(happened.thing)
        if minute is None:
            if len(self._minutes) >= MAX_THINGS and (held := self._ended(next(iter(self._minutes)))):
                yield held
            minute = self._minutes[happened.thing] = _Minute(now_s + _MINUTE_S, 0)
        if minute.told < MAX_A_MINUTE:
            minute.told += 1
            yield happened
        else:
            minute.omitted += minute.held is not None
            minute.held = happened

    def over(self, now_s: float, *, every: bool) -> Iterator[_Happened]:
        """Yield what minutes that are over, or all of them, had held back."""
        for thing in [thing for thing, minute in self._minutes.items() if every or now_s >= minute.ends_s]:
            if held := self._ended(thing):
                self._minutes[thing] = _Minute(now_s + _MINUTE_S, 1)  # it counts in the next
                yield held

    def _ended(self, thing: tuple[str, object]) -> _Happened | None:
        minute = self._minutes.pop(thing)
        if minute.held is None:
            return None
        return minute.held._replace(fields=minute.held.fields | {"omitted": minute.omitted})


class LogFile(RotatingFileHandler):
    """Appends lines to a file, and begins the next one when it is large."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            UsageError: it cannot be written, or not be rotated.
        """
        try:
            super().__init__(path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8")
            if not access(path.parent, W_OK):
                self.close()
                raise PermissionError("no file can be made in its folder, so it could not be rotated")
        except OSError as error:
            raise UsageError(
                f"LOG_FILE {path} cannot be written: {error.strerror or error}. Nothing was started. Next: make its "
                f"folder, or name another file"
            ) from error

    def write(self, line: str) -> None:
        """Append a line.

        Raises:
            OSError: the disk refused. The line is lost, or comes with a later one.
        """
        self.emit(makeLogRecord({"msg": line}))

    def handleError(self, record: LogRecord) -> None:  # noqa: N802  # its parent's name, and it would print a traceback
        raise  # noqa: PLE0704  # it is called where the error is handled

    def close(self) -> None:
        with suppress(OSError):  # of lines that `write` said are lost
            super().close()


def _renderer(form: Form, secrets: Collection[str]) -> Callable[[_Happened], str]:
    # Here, as it takes 40 ms, and most commands keep no journal.
    import structlog  # noqa: PLC0415

    render = structlog.processors.JSONRenderer() if form == "json" else _text
    logger = structlog.wrap_logger(
        structlog.testing.ReturnLogger(), [_head, _Cleaned(secrets), render], structlog.BoundLogger, dict
    ).bind()

    def line_of(happened: _Happened) -> str:
        level = getattr(logger, EVENTS[happened.name].level)
        return str(level(happened.name, timestamp=happened.at_ns, **happened.fields))

    return line_of


_Fields = MutableMapping[str, Any]


def _head(_: object, level: str, event: _Fields) -> _Fields:
    """Put first what every line has. Why not structlog's own time: `clock` is the only wall clock."""
    timestamp = f"{clock.utc_text(event.pop('timestamp'))[:-4]}Z"  # microseconds
    return {"timestamp": timestamp, "level": level, "event": event.pop("event"), **event}


class _Cleaned:
    """Makes values plain, without a secret and of bounded length: what a foreign library says may hold anything."""

    def __init__(self, secrets: Collection[str]) -> None:
        known = {form for secret in secrets for form in _forms(secret) if form}
        self._secrets = sorted(known, key=len, reverse=True)  # one that holds another goes whole

    def __call__(self, _: object, __: str, event: _Fields) -> _Fields:
        return {name: self._plain(value) for name, value in event.items()}

    def _plain(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {self._text(str(key)): self._plain(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple) and type(value) in (list, tuple):  # a stream is a tuple with a name
            return [self._plain(entry) for entry in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        for secret in self._secrets:  # before the cut, which may leave half of one
            text = text.replace(secret, "***")
        text = text.replace("\x7f", "\\x7f")  # the one control character that JSON leaves as it is
        if len(text) <= MAX_CHARACTERS:
            return text
        return f"{text[:MAX_CHARACTERS]}... and {len(text) - MAX_CHARACTERS} characters more"


def _forms(secret: str) -> set[str]:
    """Return how a secret may stand in a text: as it is, in a URL, in a quoted string."""
    return {form for form in (secret, secret.strip()) for form in (form, quote(form, safe=""), json.dumps(form)[1:-1])}


_WORD: Final = re.compile(r"[!#-<>-~]+")  # ASCII that prints, without space, quote and equals sign


def _text(_: object, level: str, event: _Fields) -> str:
    """Return an event as one line. Why not structlog's logfmt: it leaves all control characters but one as they are."""
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    return " ".join([head, *(f"{name}={_word(value)}" for name, value in event.items() if value is not None)])


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        value = ",".join(f"{key}:{entry}" for key, entry in value.items())
    elif isinstance(value, list):
        value = ",".join(str(entry) for entry in value)
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text)  # whose escapes leave printing ASCII alone
