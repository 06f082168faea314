"""`replay`: a session judged again from the lake, its certificate, and whether recorded Gold is the same."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spymaster import clock
from spymaster.cli.options import AsJson, DataRoot, WalRoot, load
from spymaster.cli.output import COULD_NOT_RUN, FINDINGS, OK, failing_with, print_json, progress, remark
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.engines.snap import Snap
    from spymaster.signals.check import Check

OTHER_CODE: Final = 3
_MINUTE_NS: Final = 60 * clock.NS_PER_SECOND


@failing_with(COULD_NOT_RUN)
def replay_command(
    date: Annotated[str, typer.Option(help="The session's date as the exchange names it, YYYY-MM-DD.")],
    speed: Annotated[float, typer.Option(help="Event time per wall time; 0 is as fast as it goes.", min=0)] = 0.0,
    check: Annotated[bool, typer.Option("--check", help="Compare with the Gold that was recorded.")] = False,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    as_json: AsJson = False,
) -> int:
    """Judge a session again from log and lake, by PROFILE, and print a certificate of what came of what.

    Each snap has the rows that it had live, as system.snaps says; of a day that was backfilled, those known by then.
    Exit 0 done, or the same as was recorded; 1 it differs; 2 could not run; 3 recorded Gold was made by other code.

    Example: spymaster replay --date 2025-12-22 --check
    """
    from spymaster.engines.profile import profile_named
    from spymaster.paths import check_date
    from spymaster.query.sessions import session_of_date
    from spymaster.signals.check import check as compare
    from spymaster.signals.replay import replay

    loaded = load(data_root, wal_root)
    profile = profile_named(loaded.profile)
    session = session_of_date(check_date(date), profile.market.calendar)
    if session is None:
        raise UsageError(
            f"{date} is no session of {profile.market.calendar}. Nothing was read. Next: give another date"
        )
    pace = _Pace(speed)
    minutes = (session.end_ns - session.begin_ns) // _MINUTE_NS
    with progress("minutes", as_json=as_json) as advance:

        def shown(snap: "Snap") -> None:
            advance((snap.snap_ns - session.begin_ns) // _MINUTE_NS, minutes)
            pace.wait(snap.snap_ns)

        made = replay(loaded.data_root, loaded.wal_root, profile, session, shown=shown)
    found = compare(loaded.data_root, made.folder, profile, session) if check else None
    if as_json:
        print_json({"certificate": made.certificate, "folder": str(made.folder), "check": _document(found)})
    else:
        _print(made.certificate)
        print(f"Its Gold is in {made.folder}, with certificate.json.")
        if found is not None:
            _print_check(found)
    return _exit_code(found)


class _Pace:
    """Waits so that snaps come as they came, or faster by a factor."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first: tuple[int, float] | None = None

    def wait(self, snap_ns: int) -> None:
        if not self._speed:
            return
        now_s = clock.monotonic_s()
        self._first = self._first or (snap_ns, now_s)
        due_s = self._first[1] + (snap_ns - self._first[0]) / clock.NS_PER_SECOND / self._speed
        time.sleep(max(due_s - now_s, 0))


def _exit_code(found: "Check | None") -> int:
    if found is None or not (found.different or found.other):
        return OK
    return FINDINGS if found.different else OTHER_CODE


def _document(found: "Check | None") -> dict[str, Any] | None:
    if found is None:
        return None
    return {**found._asdict(), "differences": [one._asdict() for one in found.differences]}


def _print(certificate: Mapping[str, Any]) -> None:
    inputs, outputs, void = (certificate[name] for name in ("inputs", "outputs", "void"))
    by = "as they are on record" if certificate["snaps_by"] == "record" else "by when rows were known"
    print(f"certificate {certificate['sha256']}")
    print(
        f"session   {certificate['session']}, {certificate['profile']} {certificate['profile_hash']}, "
        f"{certificate['contract']}, code {certificate['code_hash']}"
    )
    print(f"snaps     {outputs['snaps']:,}, {by}")
    for own in inputs:
        print(f"input     {own['schema']} of capture {own['capture_id']}: {own['rows']:,} rows, {own['sha256']}")
    print(f"output    {outputs['rows']:,} rows of levels.signals, {outputs['sha256']}")
    print(f"before    {certificate['before'] or 'the session before was not replayed here'}")
    for one in void["named"]:
        span = f"{_at(one['first_ns'])} to {_at(one['last_ns'])}"
        print(f"void      {span} UTC, {one['snaps']:,} snaps: {one['reason']}")
    if (rest := void["spans"] - len(void["named"])) > 0:
        print(f"void      {rest:,} more spans")


def _at(ts_ns: int) -> str:
    return clock.utc_text(ts_ns)[11:23]


def _print_check(found: "Check") -> None:
    for one in found.differences:
        print(f"finding: {one.part}: {one.what}")
    if (rest := found.different - len(found.differences)) > 0:
        print(f"finding: {rest:,} more parts differ")
    bytewise = "" if found.same == found.same_bytes else f" ({found.same_bytes:,} byte for byte)"
    print(f"{found.same:,} recorded parts are the same{bytewise}, {found.different:,} differ.")
    if found.other:
        remark(
            f"{found.other:,} recorded parts were made by other code or another profile, so they say nothing of this "
            f"one. Next: replay them with the version that made them"
        )
