"""What concerns this machine: `doctor`, also with `--torture`, and `config show`."""

import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spymaster.cli.options import AsFormat, AsJson, DataRoot, WalRoot, chosen, load
from spymaster.cli.output import (
    COULD_NOT_RUN,
    FINDINGS,
    OK,
    Count,
    Format,
    failing_with,
    print_json,
    remark,
    show_rows,
)
from spymaster.errors import UsageError

if TYPE_CHECKING:
    from spymaster.proof.doctor import Check
    from spymaster.proof.kill_trials import Report, Trial
    from spymaster.settings import Settings

_COLOURS: Final = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
_LOSSES: Final = ("lost", "doubled", "invented")


@failing_with(COULD_NOT_RUN)
def doctor_command(
    kill: Annotated[bool, typer.Option("--torture", help="Kill real daemons in a scratch folder, and count.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="With --torture: for so long, however many.")] = None,
    kills: Annotated[int | None, typer.Option(min=1, help="With --torture: so many; default: 50.")] = None,
    data_root: DataRoot = None,
    wal_root: WalRoot = None,
    form: AsFormat = None,
    as_json: AsJson = False,
) -> int:
    """Check whether this machine is fit to record on, a line each; or watch the daemon being killed and lose nothing.

    Exit 0 all OK or warnings only, 1 something failed or was lost, 2 could not run. Nothing of yours is changed.

    Example: spymaster doctor

    Example: spymaster doctor --torture --minutes 10
    """
    from spymaster.proof import doctor

    form = chosen(form, as_json=as_json)
    loaded = load(data_root, wal_root)
    if kill:
        return _torture(loaded, kills, minutes, form)
    if minutes is not None or kills is not None:
        raise UsageError("--minutes and --kills go with --torture. Nothing was started. Next: add --torture")
    checks = []
    for check in doctor.examine(loaded):
        checks.append(check)
        if form is None:  # as each is done: one of them takes seconds
            _print_check(check)
    failed = any(check.verdict == "FAIL" for check in checks)
    if form is Format.JSON:
        print_json({"fit": not failed, "checks": [check._asdict() for check in checks]})
    elif form is not None:
        show_rows(doctor.Check._fields, checks, form)
    return FINDINGS if failed else OK


def _print_check(check: "Check") -> None:
    verdict = f"{check.verdict:4}"
    typer.echo(f"{typer.style(verdict, fg=_COLOURS[check.verdict])} {check.name}: {check.found}")
    if check.advice:
        print(f"     -> {check.advice}")


def _torture(loaded: "Settings", kills: int | None, minutes: float | None, form: Format | None) -> int:
    from spymaster.proof import kill_trials

    if kills is None and minutes is None:
        kills = kill_trials.KILLS
    as_json = form is Format.JSON
    done: list[Trial] = []

    def show(trial: "Trial") -> None:
        done.append(trial)
        if not as_json:
            print(_trial_line(trial, kills))

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # child and scratch folder go in any case
    if not as_json:
        print("A real daemon records a simulated market, is killed (kill -9) at a random moment, and recovers.")
    try:
        report = kill_trials.torture(loaded.wal_root, kills, minutes, secrets.randbits(32), show)
    except KeyboardInterrupt:
        remark(f"interrupted after {len(done)} kills; the scratch folder is removed")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print_json(_torture_document(report))
    else:
        _print_torture(report, form)
    return FINDINGS if report.findings else OK


def _trial_line(trial: "Trial", kills: int | None) -> str:
    many = "" if kills is None else f" of {kills}"
    found = f"{trial.lost:,} lost, {trial.doubled:,} doubled"
    line = f"kill {trial.number}{many}: {trial.acknowledged:,} rows acknowledged, "
    if trial.torn:
        line += f"{trial.torn}, "
    return (
        f"{line}recovered in {trial.recovery_s:.2f} s, {found}{f', {trial.invented:,} invented' * (trial.invented > 0)}"
    )


def _torture_document(report: "Report") -> dict[str, Any]:
    totals = {name: sum(getattr(trial, name) for trial in report.trials) for name in ("acknowledged", *_LOSSES)}
    return {
        "held": not report.findings,
        "seed": report.seed,
        "kills": len(report.trials),
        "torn_tails": sum(trial.torn is not None for trial in report.trials),
        **totals,
        "rows_counted": report.rows_counted,
        "recovery_s": {name: report.recovery_s(share) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
        "sync_s": {"p50": report.syncs.p50_s, "p99": report.syncs.p99_s, "max": report.syncs.max_s},
        "findings": report.findings,
        "kept": report.kept and str(report.kept),
        "trials": [trial._asdict() for trial in report.trials],
    }


def _print_torture(report: "Report", form: Format | None) -> None:
    found = _torture_document(report)
    counted = ("kills", "torn_tails", "acknowledged", *_LOSSES, "rows_counted")
    rows: list[list[object]] = [[name.replace("_", " "), Count(found[name])] for name in counted]
    for name, unit, factor in (("recovery", "s", 1), ("sync", "ms", 1000)):
        values = " / ".join(f"{found[f'{name}_s'][share] * factor:.2f}" for share in ("p50", "p99", "max"))
        rows.append([f"{name} {unit}, p50 / p99 / max", values])
    show_rows(["on this disk", "measured"], rows, form)
    for line in report.findings:
        print(f"finding: {line}")
    if report.kept is not None:
        print(f"Log and lake are kept in {report.kept} (seed {report.seed}).")
    else:
        print("Every acknowledged row is in Bronze once, as the market gave it; verify finds nothing.")
    print("A kill keeps what the system has in memory. Power cuts are shown by a model of the disk, in tests/crash.")


def config_show(
    data_root: DataRoot = None, wal_root: WalRoot = None, form: AsFormat = None, as_json: AsJson = False
) -> None:
    """Show every setting, its value and what it means; of a secret only whether it is set.

    Example: spymaster config show
    """
    from pydantic import SecretStr

    from spymaster.settings import Settings

    form = chosen(form, as_json=as_json)
    loaded = load(data_root, wal_root)
    shown: dict[str, dict[str, Any]] = {}
    for name, field in Settings.model_fields.items():
        value = getattr(loaded, name)
        if isinstance(value, SecretStr):
            value = "set"
        elif value is None:
            value = "not set"
        shown[name.upper()] = {"value": str(value) if isinstance(value, Path) else value, "meaning": field.description}
    if form is Format.JSON:
        print_json(shown)
        return
    rows = [[name, entry["value"], entry["meaning"]] for name, entry in shown.items()]
    show_rows(["setting", "value", "meaning"], rows, form)
