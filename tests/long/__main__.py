"""The long form of everything that tries to lose a row, and of what engines see: `make torture`. Prints a table, see
docs/durability.md.

Each trial is a function of its seed and is run by the tests as well, with smaller numbers. `make torture ARGS="kills
errors"` runs some; `ARGS="--share 0.01"` a hundredth of each, to see that it works. Exit code 1 if anything was lost,
doubled, invented, torn, undetected or left in; what this machine cannot try is not tried.
"""

import argparse
import datetime
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bench.recovery import measure
from spymaster.signals.datasets.build import make as make_datasets
from tests.engines.truths import Score
from tests.faults.errors import errors_at_syscalls
from tests.faults.kills import kills_at_random, kills_at_syscalls
from tests.faults.locks import races_for_the_lock
from tests.long.alarms import MOST_AN_HOUR, SIGNALS, STATES
from tests.long.alarms import measure as measure_alarms
from tests.long.contests import CAME_OFF, play_many
from tests.long.explained import SCORES
from tests.long.explained import measure as measure_explained
from tests.long.explorer import torture as explore
from tests.long.fuel import LEAST, LEAST_BOUND, LEAST_TURNS
from tests.long.fuel import measure as measure_fuel
from tests.long.page import lines_of_states
from tests.long.page_weight import lines_of_weight
from tests.long.power import KINDS, CannotCutError, power_cuts
from tests.long.replays import live_through
from tests.long.rot import torture as rot
from tests.long.truth import measure as measure_truth
from tests.long.worth import CONTESTS, LEAST_AUC, area, ascends, bands
from tests.long.worth import measure as measure_worth
from tests.normalize.massive_fuzz import torture as fuzz
from tests.signals.datasets.truncating import LIVELY, differing, lively_market, truncated
from tests.signals.recordings import Recording

WORKERS = 2
RECOVERY_ROUNDS = 5
TRUNCATIONS = 200
RECOVERY_LIMIT_S = 5.0
out, err = Console(soft_wrap=True, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
HOLDS = {True: "yes", False: "NO", None: "not tried"}

Advance = Callable[[int, int], None]


class Line(NamedTuple):
    """One row of the table.

    Attributes:
        measure: what was tried.
        wanted: what it has to come to.
        measured: what it came to.
        holds: whether that is enough; None if this machine cannot try it.
    """

    measure: str
    wanted: str
    measured: str
    holds: bool | None


def explorer(share: float, folder: Path, advance: Advance) -> list[Line]:
    distinct, nested = int(100_000 * share), int(500_000 * share)
    found = explore(distinct, nested, WORKERS, advance)
    for violation in found.violations:
        err.print(violation, markup=False)
    return [
        Line(
            "states after a power cut or kill: distinct / during recovery",
            f">= {distinct:,} / {nested:,}, 0 violations",
            f"{found.distinct:,} / {found.nested:,} ({found.deepest} deep), {len(found.violations)} violations",
            found.distinct >= distinct and found.nested >= nested and not found.violations,
        ),
        Line(
            "planted defects caught",
            "all",
            f"{found.caught} of {found.mutants} {' '.join(found.missed)}".strip(),
            found.caught == found.mutants,
        ),
    ]


def kills(share: float, folder: Path, advance: Advance) -> list[Line]:
    points, wanted = int(3_000 * share), int(2_000 * share)
    found = kills_at_syscalls(folder, points, advance, seeds=(0, 1, 2))
    phases = ", ".join(f"{phase} {count:,}" for phase, count in sorted(found.per_phase.items()))
    return [
        Line(
            "kills at storage calls",
            f">= {wanted:,}, all zero",
            f"{found.kills:,} ({phases}); {found.acknowledged_rows:,} rows acknowledged; {_wrong(found)}",
            found.kills >= wanted and found.clean,
        )
    ]


def random_kills(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = int(2_000 * share)
    found = kills_at_random(folder, wanted, advance)
    return [
        Line(
            "kills at random moments",
            f">= {wanted:,}, all zero",
            f"{found.kills:,}; {found.acknowledged_rows:,} rows acknowledged; {_wrong(found)}",
            found.kills >= wanted and found.clean,
        )
    ]


def errors(share: float, folder: Path, advance: Advance) -> list[Line]:
    points = int(2_000 * share)
    found = errors_at_syscalls(folder, points, advance, seeds=(0, 1, 2))
    return [
        Line(
            "EIO and ENOSPC at storage calls",
            "all zero",
            f"{found.trials:,} ({found.went_on:,} went on, {found.stopped:,} stopped, {found.waited:,} waited); "
            f"{_wrong(found)}",
            found.trials > 0 and found.clean,
        )
    ]


def power(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = max(1, int(100 * share))
    total = wanted * len(KINDS)
    return [
        _power_cuts(kind, wanted, folder, lambda done, _, before=number * wanted: advance(before + done, total))
        for number, kind in enumerate(KINDS)
    ]


def _power_cuts(kind: str, wanted: int, folder: Path, advance: Advance) -> Line:
    measure, due = f"power cuts of a daemon on {kind}", f">= {wanted:,}, all zero"
    try:
        found = power_cuts(kind, folder, wanted, advance)
    except CannotCutError as reason:
        return Line(measure, due, f"not tried: {reason}", None)
    for finding in found.findings:
        err.print(finding, markup=False)
    return Line(
        measure,
        due,
        f"{found.cuts:,} ({found.torn:,} left a torn tail); {found.published_rows:,} rows published; "
        f"lost {found.lost}, doubled {found.doubled}, foreign {found.foreign}, findings {len(found.findings)}",
        found.cuts >= wanted and not found.findings,
    )


def races(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = int(1_000 * share)
    found = races_for_the_lock(folder, wanted, advance)
    return [
        Line(
            "two daemons at once",
            f">= {wanted:,} races, 0 double holders",
            f"{found.races:,} races, {found.double_holders} double holders, {len(found.misled)} misled",
            found.races >= wanted and not (found.double_holders or found.no_holder or found.misled),
        )
    ]


def bit_rot(share: float, folder: Path, advance: Advance) -> list[Line]:
    flips, mutations = int(1_800_000 * share), int(200_000 * share)
    found = rot(flips, mutations, WORKERS, advance)
    for finding in found.findings:
        err.print(finding, markup=False)
    return [
        Line(
            "bits flipped + bytes damaged otherwise, undetected",
            f"0 of >= {int(1_000_000 * share):,}",
            f"{found.undetected} of {found.flips:,} + {found.mutations:,}; {found.invented_rows} rows invented",
            found.flips + found.mutations >= int(1_000_000 * share) and not (found.undetected or found.invented_rows),
        )
    ]


def recovery(share: float, folder: Path, advance: Advance) -> list[Line]:
    results = measure(max(1, int(RECOVERY_ROUNDS * share)))
    lines = []
    for number, (schema, result) in enumerate(results.items()):
        advance(number + 1, len(results))
        seconds = result["measured"]["seconds"]
        lines.append(
            Line(
                f"recovery of 256 MB of {schema}, verified, salvaged and in Bronze",
                f"<= {RECOVERY_LIMIT_S:.0f} s",
                f"{seconds['median']:.1f} s ({seconds['min']:.1f} to {seconds['max']:.1f})",
                seconds["median"] <= RECOVERY_LIMIT_S,
            )
        )
    return lines


def frames(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = int(1_000_000 * share)
    found = fuzz(wanted, WORKERS, lambda done: advance(done, wanted))
    if found.example:
        err.print(found.example, markup=False)
    return [
        Line(
            "Massive's frames, pages and files mutated: crashes / wrong rows",
            f"0 / 0 of >= {wanted:,}",
            f"{found.crashes} / {found.wrong_rows} of {found.mutations:,}; {found.quarantined:,} in quarantine",
            found.mutations >= wanted and not (found.crashes or found.wrong_rows),
        )
    ]


def contests(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = max(100, int(5_000 * share))
    found = play_many(wanted, WORKERS, advance)
    for finding in found.findings:
        err.print(finding, markup=False)
    return [
        Line(
            "simulated contests: outcomes by stated odds, not foretold by order, spacing, side, price and rate",
            f">= {wanted:,}, findings 0; AUC 0.5 within three standard errors; {CAME_OFF:.0%} of each come off",
            f"{len(found.played):,}, findings {len(found.findings)}; AUC {found.control:.3f} +- "
            f"{found.control_error:.3f}, of the odds {found.by_odds:.3f}; {found.least_share:.1%} at the least",
            len(found.played) >= wanted and not found.findings,
        )
    ]


def truth(share: float, folder: Path, advance: Advance) -> list[Line]:
    least, lines = max(1, int(50 * share)), []
    for found in measure_truth(least, WORKERS, advance):
        # Of few truths the bound says nothing.
        for where, pairs in (("prices in sight", found.everywhere), ("levels", found.at_levels)):
            for kind, (recall, precision) in pairs.items():
                bar = found.strength == 1
                lines.append(
                    Line(
                        f"{kind} at {found.rate:,} rows/s, strength {found.strength:g}, {where}: recall, precision",
                        f">= .9 of >= {least}, bounds >= .8" if bar else "to be seen",
                        f"{recall}, {precision}",
                        not bar or all(one.share >= 0.9 and (share < 1 or one.bounds[0] >= 0.8) for one in pairs[kind]),
                    )
                )
    return lines


def alarms(share: float, folder: Path, advance: Advance) -> list[Line]:
    return [
        Line(
            f"nothing planted, {found.hours:.2f} h at {found.rate:,} rows/s: BREAK and REJECT over all levels",
            f"<= {MOST_AN_HOUR:g} an hour" if share >= 1 else f"<= {MOST_AN_HOUR:g} an hour and three standard errors",
            f"{found.an_hour:.2f} an hour ({_counted(found.begun, SIGNALS)}); held: {_counted(found.held, STATES)}",
            found.begun.total() <= found.most(share),
        )
        for found in measure_alarms(share, WORKERS, advance)
    ]


def worth(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted, slack = max(1, round(CONTESTS * share)), 0 if share >= 1 else 3
    found = measure_worth(wanted, WORKERS, advance)
    lines = []
    for when, pairs in (("at the level's first touch", found.touch), ("before the decision", found.decision)):
        auc, error = area(pairs)
        lines += [
            Line(
                f"contests, score {when}: AUC",
                f">= {LEAST_AUC} of >= {wanted}{' less three standard errors' if slack else ''}",
                f"{auc:.3f} +- {error:.3f} of {len(pairs)}",
                len(pairs) >= wanted and auc + slack * error >= LEAST_AUC,
            ),
            Line(
                f"contests, score {when}: how many break, by band",
                "no band less often than a lower one, within intervals",
                "; ".join(f"{low:.0f} up: {Score(broke, of)}" for low, _, broke, of in bands(pairs)),
                ascends(bands(pairs)),
            ),
        ]
    for where, pairs, bar in (
        ("random levels among contests", found.random, False),
        ("the round levels, nothing planted", found.round_alone, True),
        ("random levels, nothing planted", found.random_alone, True),
    ):
        auc, error = area(pairs)
        lines.append(
            Line(
                f"{where}, score at a touch: AUC",
                "0.5 within three standard errors" if bar else "to be seen",
                f"{auc:.3f} +- {error:.3f} of {len(pairs)}",
                not bar or abs(auc - 0.5) <= 3 * error,
            )
        )
    return lines


FUEL = {
    "quote": "prints told by their quotes, of those that somebody began",
    "iv": "prints told by their volatility, without quotes",
    "flow": "net flow of a minute, with quotes: correlation with the true one",
    "recall": "planted turns of the flow that were seen",
    "precision": "turns of the flow seen that were planted",
}


def fuel(share: float, folder: Path, advance: Advance) -> list[Line]:
    lines = []
    for found in measure_fuel(share, WORKERS, advance):
        wanted = f">= {LEAST[found.of]}"
        if found.of in ("recall", "precision"):
            wanted += f" of >= {LEAST_TURNS}, bound >= {LEAST_BOUND}"
        low, high = found.apart
        lines.append(
            Line(
                f"options of {found.root} at {found.rate:,} rows/s: {FUEL[found.of]}",
                wanted if share >= 1 else f"upper bound >= {LEAST[found.of]}",
                f"{found.total}; markets {low:.3f} to {high:.3f}",
                found.holds(share),
            )
        )
    return lines


def replay(minutes: float, share: float, folder: Path, advance: Advance) -> list[Line]:
    found = live_through(minutes * share, folder, advance)
    for finding in found.findings:
        err.print(finding, markup=False)
    pace = found.seconds / found.took_s
    lived = found.kills > 0 and found.read_again > 0 and found.late > 0 and found.zones > 0
    return [
        Line(
            f"{minutes:g} min judged live, with kills, gaps and a judge that lags: replay, verify, Gold counted",
            "0 findings; kills, late rows, rows read again and hot zones in it",
            f"{len(found.findings)} findings; {found.seconds / 60:.1f} min at {pace:.0f} x, {found.kills} kills, "
            f"{found.late:,} late, {found.read_again:,} read again; {found.snaps:,} snaps, {found.rows:,} rows of Gold "
            f"in {found.same:,} parts, {found.zones:,} of a hot zone",
            lived and not found.findings,
        ),
        Line(
            f"{minutes:g} min judged live: spans without rows, in which nothing is said to be sound",
            ">= 1 of each kind",
            f"{found.holes} between daemons, {found.given_up} of a full disk; {found.void:,} snaps void",
            found.holes > 0 and (found.given_up > 0 if found.small_disk else None),
        ),
    ]


def page(share: float, folder: Path, advance: Advance) -> list[Line]:
    return [Line(*one) for one in lines_of_states(folder, advance)]


def heap(minutes: float, share: float, folder: Path, advance: Advance) -> list[Line]:
    return [Line(*one) for one in lines_of_weight(minutes * share, folder, advance)]


def _counted(counter: Counter[str], names: Sequence[str]) -> str:
    return ", ".join(f"{counter[name]} {name}" for name in names)


def explained(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = max(1, round(SCORES * share))
    found = measure_explained(wanted, folder, advance)
    for finding in found.findings:
        err.print(finding, markup=False)
    return [
        Line(
            "scores explained beside the daemon that gave them",
            f">= {wanted}, each worked again to the same numbers",
            f"{found.asked}; {len(found.findings)} findings",
            found.asked >= wanted and not found.findings,
        )
    ]


def truncation(share: float, folder: Path, advance: Advance) -> list[Line]:
    wanted = max(1, round(TRUNCATIONS * share))
    recording = Recording(folder / "whole").record(lively_market())
    make_datasets(recording.data, recording.wal, LIVELY, only="touches")
    wrong = []
    for number, (until_ns, lake) in enumerate(truncated(folder, wanted, seed=11), 1):
        wrong += [f"{name} as of {until_ns}" for name in differing((recording.data, recording.wal), lake)]
        advance(number, wanted)
    for one in wrong:
        err.print(one, markup=False)
    return [
        Line(
            f"touches as they stood at {wanted:,} random times beside builds of the data until then",
            "the same rows",
            f"{len(wrong)} differ",
            not wrong,
        )
    ]


TRIALS: dict[str, Callable[[float, Path, Advance], list[Line]]] = {
    "explorer": explorer,
    "kills": kills,
    "random": random_kills,
    "errors": errors,
    "power": power,
    "races": races,
    "rot": bit_rot,
    "frames": frames,
    "recovery": recovery,
    "contests": contests,
    "truth": truth,
    "alarms": alarms,
    "worth": worth,
    "fuel": fuel,
    "truncation": truncation,
    "explained": explained,
    "replay": partial(replay, 30),
    "session": partial(replay, 390),
    "page": page,
    "heap": partial(heap, 10),
    "soak": partial(heap, 60),
}


def _wrong(found) -> str:
    for finding in found.findings:
        err.print(str(finding), markup=False)
    wrong = found.wrong
    return (
        f"lost {wrong.lost}, doubled {wrong.doubled}, invented {wrong.invented}, torn {wrong.torn}, "
        f"findings {len(found.findings)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"some of: {', '.join(TRIALS)}; default: all")
    parser.add_argument("--share", type=float, default=1.0, help="of the full numbers")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    asked = parser.parse_args()
    if unknown := set(asked.trials) - TRIALS.keys():
        parser.error(f"no such trial: {', '.join(sorted(unknown))}")
    lines: list[Line] = []
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, Progress(*columns, console=err) as bars:
        for name in asked.trials or TRIALS:
            task = bars.add_task(name, total=None)
            scratch = Path(folder, name)
            scratch.mkdir()
            began = time.monotonic()
            found = TRIALS[name](asked.share, scratch, _teller(bars, task, name))
            for line in found:
                err.print(f"{line.measure}: {line.measured}", markup=False)
            err.print(f"{name} took {time.monotonic() - began:,.0f} s", markup=False)
            lines += found
    report(lines, as_json=asked.json)
    return 0 if all(line.holds is not False for line in lines) else 1


def _teller(bars: Progress, task: TaskID, name: str) -> Advance:
    """Return what moves a trial's bar; in a file, which shows no bars, it writes a line for each tenth."""
    tenths = 0

    def advance(done: int, total: int) -> None:
        nonlocal tenths
        bars.update(task, completed=done, total=total)
        if not err.is_terminal and done * 10 // max(total, 1) > tenths:
            tenths = done * 10 // max(total, 1)
            err.print(f"{name}: {done:,} of {total:,}", markup=False, highlight=False)

    return advance


def report(lines: list[Line], *, as_json: bool) -> None:
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, pyarrow {pa.__version__}"
    if as_json:
        print(json.dumps({"machine": machine, "lines": [line._asdict() for line in lines]}))
        return
    table = Table("measure", "wanted", "measured", "holds")
    for line in lines:
        table.add_row(line.measure, line.wanted, line.measured, HOLDS[line.holds])
    out.print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {machine}")
    out.print(table)


if __name__ == "__main__":
    sys.exit(main())
