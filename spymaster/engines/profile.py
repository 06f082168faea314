"""What the engines are told of a market: every threshold, each with its unit and its reason in `profiles/*.toml`.

A unit is the end of a name: `_ticks`, `_s`, `_typ` (multiples of the typical size), `_pct`; what has none is a share or
a multiple, which the file says. Prices of levels are in ticks of the underlying, the book's in ticks of the book's.

`profile_hash` stands in every output: two outputs with one hash were judged by the same numbers. It is of the numbers,
not of the file, so a comment or the order of lines changes nothing.
"""

import hashlib
import json
from functools import cache
from importlib import resources
from tomllib import TOMLDecodeError, loads
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from spymaster.errors import UsageError

ProfileName = Literal["ES", "SPY", "SIM"]
Kind = Literal[
    "USER_HOTZONE", "PRIOR_DAY_HIGH", "PRIOR_DAY_LOW", "PM_HIGH", "PM_LOW", "OVERNIGHT_HIGH", "OVERNIGHT_LOW",
    "OR_HIGH", "OR_LOW", "IB_HIGH", "IB_LOW", "ROUND", "STRIKE", "CALL_WALL", "PUT_WALL", "SESSION_HIGH", "SESSION_LOW",
    "POC", "VAH", "VAL", "GAMMA_FLIP",
    "SMA_400", "SMA_200", "VWAP",
]  # fmt: skip
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)  # the steadiest first: a row of levels at one price has its id

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=-1, le=1)]
Points = Annotated[float, Field(ge=0, le=100)]
MOST_EXPIRY_DAYS: Final = 366
_HASH_DIGITS: Final = 16


class _Numbers(BaseModel):
    """A table of the file: a key that is missing or unknown, or a text in place of a number, is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Market(_Numbers):
    """Whose prices levels are in, and what market state is made of."""

    underlying: str
    calendar: Literal["cme", "us"]
    tick: PositiveFloat
    atr_bars: PositiveInt
    value_area_pct: Annotated[int, Field(ge=1, le=100)]
    approach_s: PositiveInt


class Book(_Numbers):
    """Whose book is judged."""

    symbol: str
    tick: PositiveFloat
    levels: PositiveInt
    ratio_s: PositiveInt | None = None


class Typical(_Numbers):
    """Typical sizes and norms, `engines/typical.py`."""

    half_life_s: PositiveInt
    clip: PositiveInt
    mean_snaps: PositiveInt
    warm_up_s: PositiveInt
    seed_sessions: PositiveInt


class Levels(_Numbers):
    """The universe of levels, `engines/levels.py`."""

    monitor_band_ticks: PositiveInt
    touch_band_ticks: PositiveInt
    rearm_ticks: PositiveInt
    round_spacing_ticks: PositiveInt
    round_range_ticks: PositiveInt
    confluence_band_ticks: PositiveInt
    confluence_full: PositiveFloat
    weights: dict[Kind, Share]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.touch_band_ticks < self.rearm_ticks:
            raise ValueError("touch_band_ticks must be less than rearm_ticks, or a level is touched at each snap")
        if missing := [kind for kind in KINDS if kind not in self.weights]:
            raise ValueError(f"weights has no {', '.join(missing)}")
        return self


class Barrier(_Numbers):
    """The states of a level's liquidity, `engines/barrier.py`."""

    zone_ticks: PositiveInt
    depth_ticks: PositiveInt
    removed_known: Share
    flow_s: PositiveInt
    context_s: tuple[PositiveInt, PositiveInt]
    wall_typ: PositiveFloat
    wall_hold_s: PositiveFloat
    absorption_offset_ticks: Annotated[int, Field(ge=0)]
    absorption_share: Share
    absorption_filled_typ: PositiveFloat
    absorption_density: PositiveFloat
    absorption_volume: Share
    absorption_hold_s: PositiveFloat
    vacuum_depth: Share
    vacuum_pulled: Share
    vacuum_hold_s: PositiveFloat
    consumed_depth: Share
    consumed_filled: Share
    consumed_hold_s: PositiveFloat
    weak_depth: Share
    weak_hold_s: PositiveFloat

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, values: Any) -> Any:
        """TOML has no tuples."""
        context = values.get("context_s") if isinstance(values, dict) else None
        return {**values, "context_s": tuple(context)} if isinstance(context, list) else values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.vacuum_depth < self.consumed_depth < self.weak_depth:
            raise ValueError("vacuum_depth, consumed_depth, weak_depth must ascend, since the first match wins")
        if self.depth_ticks > self.zone_ticks:
            raise ValueError("depth_ticks must not exceed zone_ticks, or no zone has a state of depth")
        return self


class Tape(_Numbers):
    """Prints near and through a level, `engines/tape.py`."""

    window_s: PositiveInt
    shrink_prints: PositiveInt
    velocity_s: PositiveInt
    sweep_gap_ms: PositiveInt
    sweep_prices: PositiveInt
    sweep_typ: PositiveFloat
    sweep_hold_s: PositiveFloat


class Runway(_Numbers):
    """What lies between the price and the next obstacle, `engines/runway.py`."""

    strong: Share


class Score(_Numbers):
    """Points and trigger, `engines/score.py`."""

    barrier: Share
    tape: Share
    fuel: Share
    vacuum: Weight
    consumed: Weight
    weak: Weight
    absorption: Weight
    wall: Weight
    half_life_s: PositiveFloat
    break_points: Points
    break_release_points: Points
    reject_points: Points
    reject_release_points: Points
    hold_s: PositiveFloat
    release_s: PositiveFloat
    within_ticks: PositiveInt
    contested_tape: Share
    void_s: PositiveFloat
    stale_s: PositiveFloat

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if abs(self.barrier + self.tape + self.fuel - 1) > 1e-9:
            raise ValueError("barrier, tape and fuel must add up to 1")
        order = (self.reject_points, self.reject_release_points, 50, self.break_release_points, self.break_points)
        if sorted(order) != list(order):
            raise ValueError("reject, reject_release, 50, break_release, break must not descend (all _points)")
        return self


class Options(_Numbers):
    """What options mean, `engines/board.py`, `dealer.py` and `fuel.py`."""

    multiplier: PositiveInt
    tick: PositiveFloat
    rate: Annotated[float, Field(ge=0, le=0.25)]
    spot_rate: Annotated[float, Field(ge=-0.25, le=0.25)]
    expiry_days: Annotated[int, Field(ge=1, le=MOST_EXPIRY_DAYS)]
    least_time_value_ticks: PositiveFloat
    greeks_s: PositiveInt
    iv_weight: Share
    flow_s: PositiveInt
    flow_share: Share
    turn_s: PositiveInt
    turn_share: Share
    errors: PositiveFloat
    near_ticks: PositiveInt
    profile_s: PositiveInt
    profile_step_ticks: PositiveInt


class Passage(_Numbers):
    """What became of a touch, `engines/passage.py`."""

    horizon_s: PositiveInt
    distance_ticks: PositiveInt


class Profile(_Numbers):
    """All numbers of one market."""

    name: ProfileName
    market: Market
    book: Book
    typical: Typical
    levels: Levels
    barrier: Barrier
    tape: Tape
    runway: Runway
    score: Score
    options: Options
    passage: Passage

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.book.ratio_s is None) != (self.market.underlying == self.book.symbol):
            raise ValueError("book.ratio_s is for an underlying that is judged by another one's book, and for no other")
        return self

    @property
    def profile_hash(self) -> str:
        """64 bits of SHA-256 over the numbers, as 16 hexadecimal digits."""
        meaning = json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(meaning.encode()).hexdigest()[:_HASH_DIGITS]


@cache
def profile_named(name: str) -> Profile:
    """Return a profile of the package.

    Raises:
        UsageError: there is none of that name, or its file is not usable.
    """
    if name not in get_args(ProfileName):
        raise UsageError(
            f"there is no profile {name!r}. Nothing was started. Next: one of {', '.join(get_args(ProfileName))}"
        )
    return read_profile(_text(name), f"{name.lower()}.toml")


def read_profile(text: str, where: str) -> Profile:
    """Return the profile that a TOML document is; `like = "ES"` takes what it does not say itself from that one.

    Args:
        text: the document.
        where: its name, for the error.

    Raises:
        UsageError: it is not TOML, a key is missing or unknown, or a number is not allowed.
    """
    try:
        values = loads(text)
        like = values.pop("like", None)
        return Profile.model_validate(values if like is None else _merged(loads(_text(str(like))), values))
    except (TOMLDecodeError, FileNotFoundError) as error:
        reason = str(error)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        reason = f"{key}: {first['msg'].removeprefix('Value error, ')}"
    raise UsageError(f"profile {where} is not usable: {reason}. Nothing was started. Next: mend that line")


def _text(name: str) -> str:
    return (resources.files("spymaster.engines") / "profiles" / f"{name.lower()}.toml").read_text("utf-8")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
    return {**base, **both}
