"""What alerts, and from which figure on: `alerts.toml`, over what stands here.

    [thresholds]
    silent_s = 5

    [kinds.signal]
    webhook = false

A key that is missing keeps its default; one that is not known is refused, as a rule that does nothing warns nobody.
"""

from pathlib import Path
from tomllib import TOMLDecodeError, loads
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spymaster.errors import UsageError
from spymaster.recording.disk import DiskLevel

Kind = Literal["signal", "void", "gap", "silent", "disk", "lag", "roll", "halt", "judge", "gold", "problem", "limit"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Signal = Literal["BREAK", "REJECT", "CONTESTED"]
ALERTS_FILE: Final = "alerts.toml"
MAX_FILE_BYTES: Final = 1 << 16
LIMIT: Final[Kind] = "limit"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class KindRule(_Table):
    """Whether a kind is told at all, and whether it is posted as well."""

    alert: bool = True
    webhook: bool = True


class Thresholds(_Table):
    """From which figure on something is told."""

    silent_s: Annotated[float, Field(ge=2, le=3600)] = 5.0  # the page says so after 2 s; a pause of 3 s is no call
    lag_ms: Annotated[float, Field(ge=1, le=3_600_000)] = 1000.0  # the median of a minute: a second is late for a level
    void_s: Annotated[float, Field(ge=0, le=3600)] = 2.0  # a crossed book of one snap is none
    disk: Literal["warn", "bronze_stopped", "ingest_stopped"] = "warn"

    @property
    def disk_level(self) -> DiskLevel:
        return DiskLevel[self.disk.upper()]


class Rules(_Table):
    """All rules.

    Attributes:
        thresholds: figures.
        kinds: by kind what is not as it is by default.
        signals: which are told.
        most_a_minute: alerts; more of them are counted, and one says how many.
    """

    thresholds: Thresholds = Thresholds()
    kinds: dict[Kind, KindRule] = {}
    signals: list[Signal] = ["BREAK", "REJECT", "CONTESTED"]
    most_a_minute: Annotated[int, Field(ge=1, le=600)] = 60

    def tells(self, kind: str) -> bool:
        return self._of(kind).alert

    def posts(self, kind: str) -> bool:
        rule = self._of(kind)
        return rule.alert and rule.webhook

    def _of(self, kind: str) -> KindRule:
        return {str(name): rule for name, rule in self.kinds.items()}.get(kind, KindRule())


def read_rules(file: Path | None) -> Rules:
    """Return the rules.

    Args:
        file: where they are; None takes those of `ALERTS_FILE` in the working folder, or the defaults.

    Raises:
        UsageError: it cannot be read, or says what cannot be.
    """
    if file is None:
        file = Path(ALERTS_FILE)
        if not file.exists():
            return Rules()
    try:
        with file.open("rb") as opened:
            held = opened.read(MAX_FILE_BYTES + 1)
        if len(held) > MAX_FILE_BYTES:
            raise _misfit(file, f"it is larger than {MAX_FILE_BYTES >> 10} KB")
        return Rules.model_validate(loads(held.decode()))
    except OSError as error:
        reason = error.strerror or str(error)
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        reason = f"it is no TOML: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        reason = f"{key}: {first['msg'].removeprefix('Value error, ')}"
    raise _misfit(file, reason)


def _misfit(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"the rules of alerts in {file} are not usable: {' '.join(reason.split())}. Nothing was started. Next: mend "
        f"that line, or move the file away; docs/alerts.md has every key"
    )
