"""What levels were worth: how many of the touches on record broke and held, per kind of level and band of score.

A touch counts where its data was whole and its outcome is known: BREAK, REJECT or NEITHER, each a share of all three,
with Wilson's interval of 95 %. One at which several kinds shared the price counts for each of them. Beside them stands
the control, touches of levels at random prices: what a level that means nothing breaks and holds. Bands of score end
where the profile's triggers do, and lie about 50, which is no evidence.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Final, NamedTuple

from spymaster import paths
from spymaster.engines.profile import Profile, Score
from spymaster.query.lake import Lake

_Z: Final = 1.96  # of 95 %
_BEYOND: Final = 100.1  # a score may be 100
_KNOWN: Final = ("BREAK", "REJECT", "NEITHER")
_TOUCHES: Final = """
    select date::varchar, kinds, score, outcome, data_whole from touches
    where profile = ? and date between ?::date and ?::date order by date, snap_ns, price
"""
_CONTROLS: Final = """
    select date::varchar, kinds, null::double, outcome, data_whole from controls
    where profile = ? and date between ?::date and ?::date
"""


class Share(NamedTuple):
    """A share, None of nothing, and the bounds of its interval."""

    share: float | None
    low: float
    high: float


class Tally(NamedTuple):
    """What became of some touches.

    Attributes:
        name: of the kind, or the band's ends.
        breaks: how many broke.
        rejects: how many held.
        neither: how many went neither way within the horizon.
        score: their mean; None of kinds.
    """

    name: str
    breaks: int
    rejects: int
    neither: int
    score: float | None = None

    @property
    def touches(self) -> int:
        """All of them."""
        return self.breaks + self.rejects + self.neither

    @property
    def broke(self) -> Share:
        """The share that broke."""
        return wilson(self.breaks, self.touches)

    @property
    def held(self) -> Share:
        """The share that held."""
        return wilson(self.rejects, self.touches)


class Report(NamedTuple):
    """What the touches of some sessions say.

    Attributes:
        profile: by whose numbers they were judged.
        sessions: dates that have touches or controls, in order.
        touches: how many count.
        kinds: by name, the most touched first.
        bands: from the lowest score.
        control: of levels at random prices.
        unscored: touches that count and have no score, and so are in no band.
        not_whole: touches with an outcome that do not count, as a snap meanwhile was void.
        unknown: touches whose outcome nobody can know, as the price was not.
        waiting: touches without an outcome: the data ended before, or the level has no direction.
    """

    profile: str
    sessions: Sequence[str]
    touches: int
    kinds: Sequence[Tally]
    bands: Sequence[Tally]
    control: Tally
    unscored: int
    not_whole: int
    unknown: int
    waiting: int


def wilson(right: int, of: int) -> Share:
    """Return a share with its bounds."""
    if not of:
        return Share(None, 0.0, 1.0)
    share, spread = right / of, _Z * _Z / of
    half = _Z * sqrt(share * (1 - share) / of + spread / (4 * of))
    middle = share + spread / 2
    return Share(share, max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0))


def bands_of(rules: Score) -> list[tuple[float, float]]:
    """Return the ends of each band, of which the upper one is not in it."""
    triggers = rules.reject_points, rules.reject_release_points, rules.break_release_points, rules.break_points
    return list(pairwise((0.0, *triggers, _BEYOND)))


def report(
    data_root: Path, wal_root: Path, profile: Profile, first: str | None = None, last: str | None = None
) -> Report:
    """Return what is on record of a profile's touches.

    Args:
        data_root: the lake.
        wal_root: its log.
        profile: by whose numbers they were judged.
        first: the first session's date; all if None.
        last: the last one's, included; all if None.

    Raises:
        UsageError: a date is none.
        SpymasterError: the lake cannot be read.
    """
    given = [profile.name, paths.check_date(first or "0001-01-01"), paths.check_date(last or "9999-12-31")]
    with Lake(data_root, wal_root) as lake:
        touches = [_Touch(*row) for row in lake.execute(_TOUCHES, given).fetchall()]
        controls = [_Touch(*row) for row in lake.execute(_CONTROLS, given).fetchall()]
    counting = [each for each in touches if each.counts]
    by_kind: dict[str, list[_Touch]] = {}
    for each in counting:
        for kind in dict.fromkeys(each.kinds):
            by_kind.setdefault(kind, []).append(each)
    bands = [_within(counting, low, high) for low, high in bands_of(profile.score)]
    return Report(
        profile.name,
        sorted({each.date for each in (*touches, *controls)}),
        len(counting),
        [_tally(kind, own) for kind, own in sorted(by_kind.items(), key=lambda item: (-len(item[1]), item[0]))],
        bands,
        _tally("RANDOM", [each for each in controls if each.counts]),
        unscored=sum(each.score is None for each in counting),
        not_whole=sum(each.outcome in _KNOWN and not each.counts for each in touches),
        unknown=sum(each.outcome is not None and each.outcome not in _KNOWN for each in touches),
        waiting=sum(each.outcome is None for each in touches),
    )


def _within(touches: Sequence["_Touch"], low: float, high: float) -> Tally:
    own = [each for each in touches if each.score is not None and low <= each.score < high]
    scores = [each.score for each in own if each.score is not None]
    return _tally(f"{low:g} to {min(high, 100):g}", own, sum(scores) / len(scores) if scores else None)


class _Touch(NamedTuple):
    date: str
    kinds: list[str]
    score: float | None
    outcome: str | None
    data_whole: bool | None

    @property
    def counts(self) -> bool:
        return self.outcome in _KNOWN and bool(self.data_whole)


def _tally(name: str, touches: Sequence[_Touch], score: float | None = None) -> Tally:
    breaks, rejects, neither = (sum(each.outcome == known for each in touches) for known in _KNOWN)
    return Tally(name, breaks, rejects, neither, score)
