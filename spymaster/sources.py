"""What `--source` names. The one place that knows all kinds of feeds."""

from pathlib import Path

from spymaster.errors import UsageError
from spymaster.feeds.day_files import FlatFileFeed
from spymaster.feeds.dbn_files import DbnFileFeed
from spymaster.feeds.feed import Feed
from spymaster.simulation.source import SimFeed, open_market


def open_feeds(source: str, raw_root: Path | None = None) -> list[Feed]:
    """Return the feeds that a `--source` names: a simulated market has one for each of its four deliveries.

    Raises:
        UsageError: no such kind of source, or its options are wrong.
        SourceError: the file is not there.
    """
    kind, _, rest = source.partition(":")
    if kind == "sim":
        return [*open_market(rest)]
    if kind == "sim-es":
        return [SimFeed.parse(rest)]
    if kind == "dbn" and rest:
        return [DbnFileFeed(rest, raw_root)]
    if kind == "flatfile" and rest:
        return [FlatFileFeed(rest, raw_root)]
    raise UsageError(
        f"source {source!r} is not known. Nothing was started. Next: use sim[:seed=1,rate=2000], dbn:PATH (a .dbn or "
        f".dbn.zst file, a folder, or a pattern) or flatfile:PATH (a .csv.gz day file, a folder, or a pattern)"
    )
