"""Where the lake's files lie, and which are there. The only place that lists DATA_ROOT and that names its tiers.

    bronze/          {asset}/{type}/{symbol|underlying}=X/date=YYYY-MM-DD[/hour=HH]/part-*.parquet, as received
    archive/bronze/  parts that were moved out of the way, laid out as Bronze; `archive` may link to another disk
    silver/          laid out as Bronze, one file a partition: .../part-0000.parquet
    silver/datasets/ what is made of sessions, `datasets.py`; `silver/features/` is kept free beside it
    gold/            levels/signals/underlying=X/date=YYYY-MM-DD/hour=HH/part-HHMMSS_micros.parquet
    quarantine/      messages that nobody could read

A place is a key: below a tier everything is named by a relative path with forward slashes, which a part keeps when it
is archived; only this module and `durable` make a `Path` of it. Why strings: of fifty thousand parts a `Path` each
takes longer than to list them.

What else lies there is passed over, and told apart:
    foreign           a Parquet file that we would not write, such as one that somebody copied there
    another layout    a Parquet file in folders that contradict ours. Whoever writes or merges here refuses the lake.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple, NewType

from spymaster import events, paths
from spymaster.errors import LayoutError, UsageError
from spymaster.events import EventSchema
from spymaster.paths import Partition

PART_PATTERN: Final = "part-??????_??????-????????*.parquet"  # for DuckDB, which lists by patterns
GOLD_PATTERN: Final = "part-??????_??????.parquet"
SILVER_FILE: Final = "part-0000.parquet"
MAX_FOREIGN: Final = 100  # named at most; beyond that they are counted
_ENRICHED: Final = "options.trades_enriched"
_QUARANTINE: Final = "quarantine"
_DATASETS: Final = "datasets"
_RESERVED: Final = (_DATASETS, "features")  # folders of Silver that hold no partition of a schema
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_HOUR: Final = re.compile(r"\d\d")
_BY_FOLDER: Final = {schema.name.replace(".", "/"): schema for schema in events.SCHEMAS.values()}

Token = NewType("Token", tuple[int, ...])


class Tier(StrEnum):
    """A part of the lake, by its folder below DATA_ROOT."""

    BRONZE = "bronze"
    ARCHIVE = "archive/bronze"
    SILVER = "silver"
    GOLD = "gold"

    def of(self, data_root: Path) -> Path:
        """Return the tier's folder."""
        return data_root / self.value


_OWN_NAMES: Final = {Tier.SILVER: SILVER_FILE.__eq__, Tier.GOLD: paths.is_gold_name}  # of files; of parts otherwise
RECEIVED: Final = (Tier.BRONZE, Tier.ARCHIVE)  # in this order: what is being moved is in the second before it leaves


class Within(NamedTuple):
    """Which partitions to look at.

    Attributes:
        value: of the partition's symbol or underlying; None for all.
        first: the first date and hour, `YYYY-MM-DDTHH`.
        last: the last, included.
    """

    value: str | None = None
    first: str = ""
    last: str = "~"

    def has(self, partition: Partition) -> bool:
        """Whether a partition is among them."""
        at = f"{partition.date}T{partition.hour or 0:02d}"
        in_hours = self.has_date(partition.date) if partition.hour is None else self.first <= at <= self.last
        return in_hours and self.value in {None, partition.value}

    def has_date(self, date: str) -> bool:
        return self.first[:10] <= date <= self.last[:10]


ALL: Final = Within()


def of_date(value: str | None, date: str) -> Within:
    """Return all partitions of one UTC date."""
    return Within(value, f"{date}T00", f"{date}T23")


class Listing(NamedTuple):
    """What lies in Bronze and in the archive.

    Attributes:
        parts: the partition of each part by its key, in order of folders and names; one that lies in both counts once.
        archived: keys of those that lie in the archive.
        foreign: the first `MAX_FOREIGN` Parquet files that are not ours, by their keys below DATA_ROOT.
        foreign_count: how many there are.
        otherwise: the first file that shows another layout; None if none does.
    """

    parts: dict[str, Partition]
    archived: frozenset[str]
    foreign: list[str]
    foreign_count: int
    otherwise: str | None

    def tier_of(self, key: str) -> Tier:
        """Return where a part lies."""
        return Tier.ARCHIVE if key in self.archived else Tier.BRONZE


def path(data_root: Path, tier: Tier, key: str) -> Path:
    """Return the path of a key."""
    return tier.of(data_root) / key


def locate(data_root: Path, key: str) -> Path:
    """Return where a part lies: in the archive if it is there."""
    bronze, archived = (path(data_root, tier, key) for tier in RECEIVED)
    return archived if archived.exists() else bronze


def escape_glob(path: Path) -> str:
    """Return `path` as a DuckDB pattern that matches itself alone."""
    return re.sub(r"([\[*?])", r"[\1]", str(path))


def quarantine(data_root: Path) -> Path:
    """Return the folder of messages that nobody could read."""
    return data_root / _QUARANTINE


def token(file: Path) -> Token:
    """Return what tells a file from another that gets its name.

    Raises:
        FileNotFoundError: it is not there.
    """
    found = file.stat()
    return Token((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))


def silver_name(schema: EventSchema) -> str:
    """Return the name of a schema's Silver: its own, but option trades come enriched."""
    return _ENRICHED if schema is events.OPTIONS_TRADES else schema.name


def schema_of_silver(name: str) -> EventSchema:
    """Return the schema whose Silver has this name, or that has it itself; with or without its version.

    Raises:
        UsageError: there is none.
    """
    return events.schema_named(name.replace(_ENRICHED, events.OPTIONS_TRADES.name))


def schema_folder(data_root: Path, tier: Tier, schema: EventSchema) -> Path:
    """Return the folder of a schema's partitions in a tier."""
    name = silver_name(schema) if tier is Tier.SILVER else schema.name
    return path(data_root, tier, name.replace(".", "/"))


def partitions(
    data_root: Path, schema: EventSchema, within: Within = ALL, tiers: Sequence[Tier] = RECEIVED
) -> list[Partition]:
    """Return the partitions of a schema that have a folder in a tier, by value, date and hour.

    Folders of other values and dates are not looked into.
    """
    found = {own for tier in tiers for own in _partitions(schema_folder(data_root, tier, schema), schema, within)}
    return sorted(found, key=in_time)


def in_time(partition: Partition) -> tuple[str, str, int]:
    """Order the partitions of a schema by value, date and hour."""
    return partition.value, partition.date, -1 if partition.hour is None else partition.hour


def dates(data_root: Path, schema: EventSchema, value: str, tiers: Sequence[Tier] = RECEIVED) -> list[str]:
    """Return the dates that a partition value has folders of in a tier, in order."""
    own = f"{schema.partition_by}={paths.encode_symbol(value)}"
    return sorted({date for tier in tiers for date in _dates(schema_folder(data_root, tier, schema) / own)})


def _partitions(base: Path, schema: EventSchema, within: Within) -> Iterator[Partition]:
    """Yield the partitions below a schema's folder. A folder that is not written as we write it is passed over."""
    key = schema.partition_by
    values = _symbols(base, key) if within.value is None else [within.value]
    for value in values:
        encoded = paths.encode_symbol(value)
        for date in filter(within.has_date, _dates(base / f"{key}={encoded}")):
            day = base / f"{key}={encoded}" / f"date={date}"
            hours = [int(hour) for hour in _values(day, "hour") if _HOUR.fullmatch(hour)] if schema.hourly else [None]
            for hour in hours:
                own = Partition(schema.name, key, value, date, hour)
                if within.has(own):
                    yield own


def _symbols(base: Path, key: str) -> list[str]:
    """Return the symbols that have a folder as `paths` would name it."""
    return [paths.decode_symbol(value) for value in _values(base, key) if _is_encoded(value)]


def _is_encoded(value: str) -> bool:
    try:
        return paths.encode_symbol(paths.decode_symbol(value)) == value
    except UsageError:  # no symbol has such a name
        return False


def _dates(folder: Path) -> list[str]:
    return [date for date in _values(folder, "date") if _DATE.fullmatch(date)]


def _values(folder: Path, key: str) -> list[str]:
    """Return the values of the `key=value` folders in a folder."""
    return [name.removeprefix(f"{key}=") for name in _names(folder) if name.startswith(f"{key}=")]


def _names(folder: Path) -> list[str]:
    """Return what is in a folder; nothing where there is none."""
    try:
        return [entry.name for entry in os.scandir(folder)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def part_names(data_root: Path, tier: Tier, partition: Partition) -> set[str]:
    """Return the names of a partition's parts in one tier."""
    ours = _OWN_NAMES.get(tier, paths.is_part_name)
    return set(filter(ours, _names(path(data_root, tier, partition.folder))))


def parts(data_root: Path, partition: Partition) -> dict[str, Path]:
    """Return the parts of a partition that lie in Bronze or in the archive, by name; of two of a name the archived."""
    found = {
        name: path(data_root, tier, f"{partition.folder}/{name}")
        for tier in RECEIVED
        for name in part_names(data_root, tier, partition)
    }
    return dict(sorted(found.items()))


def parts_in_both(data_root: Path, schema: EventSchema) -> list[Path]:
    """Return the archived parts of a schema that are in Bronze too, as amid a move."""
    return [
        path(data_root, Tier.ARCHIVE, f"{own.folder}/{name}")
        for own in partitions(data_root, schema, tiers=[Tier.ARCHIVE])
        for name in sorted(part_names(data_root, Tier.BRONZE, own))
        if path(data_root, Tier.ARCHIVE, f"{own.folder}/{name}").exists()
    ]


def has_files(data_root: Path, tier: Tier, schema: EventSchema) -> bool:
    """Whether a tier has a file of a schema."""
    base = schema_folder(data_root, tier, schema)
    ours = _OWN_NAMES.get(tier, paths.is_part_name)
    return any(ours(name) for own in _partitions(base, schema, ALL) for name in _names(_below(base, own)))


def has_parts(data_root: Path) -> bool:
    """Whether Bronze or the archive has a part. Looks no further than to the first."""
    return any(has_files(data_root, tier, schema) for tier in RECEIVED for schema in events.SCHEMAS.values())


def silver_sizes(data_root: Path) -> list[int]:
    """Return the bytes of each of Silver's files, of which a partition has one."""
    sizes = []
    for schema in events.MARKET_SCHEMAS:
        base = schema_folder(data_root, Tier.SILVER, schema)
        for own in _partitions(base, schema, ALL):
            with suppress(FileNotFoundError, NotADirectoryError):
                sizes.append((_below(base, own) / SILVER_FILE).stat().st_size)
    return sizes


def _below(base: Path, partition: Partition) -> Path:
    """Return a partition's folder below its schema's, whose name may be another in Silver."""
    return base / partition.folder.split("/", 2)[2]


def find_parts(data_root: Path) -> Listing:
    """Return what lies in Bronze and in the archive."""
    by_folder: dict[str, tuple[Partition, set[str]]] = {}
    archived: list[str] = []
    strange: list[str] = []
    for tier in RECEIVED:
        for folder, names in _walk(tier.of(data_root)):
            files = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
            own = _partition_of(folder) if files else None
            mine = set() if own is None else set(filter(paths.is_part_name, files))
            strange += [f"{tier}/{_key(folder, name)}" for name in files if name not in mine]
            if own is not None and mine:
                by_folder.setdefault(folder, (own, set()))[1].update(mine)
                archived += [f"{folder}/{name}" for name in mine] if tier is Tier.ARCHIVE else []
    found = {f"{folder}/{name}": own for folder, (own, names) in sorted(by_folder.items()) for name in sorted(names)}
    otherwise = sorted(filter(_shows_another_layout, strange))
    foreign = sorted(set(strange) - set(otherwise))
    first = otherwise[0] if otherwise else None
    return Listing(found, frozenset(archived), foreign[:MAX_FOREIGN], len(foreign), first)


def require_own_layout(data_root: Path, found: Listing) -> None:
    """Refuse a lake that is laid out otherwise.

    Raises:
        LayoutError: it is.
    """
    if found.otherwise is not None:
        raise LayoutError(
            f"{data_root / found.otherwise} does not lie where spymaster writes ({{asset}}/{{type}}/{{key}}=X/"
            f"date=YYYY-MM-DD/hour=HH/part-...parquet), so this lake is laid out otherwise. Nothing was changed. "
            f"Next: point DATA_ROOT at an empty folder, or move that file away"
        )


def silver_files(data_root: Path) -> dict[str, Partition | None]:
    """Return the Parquet files of Silver by their keys, in order; None for one that lies where none belongs."""
    schemas = {silver_name(schema): schema for schema in events.MARKET_SCHEMAS}
    found: dict[str, Partition | None] = {}
    for folder, names in _walk(Tier.SILVER.of(data_root)):
        if folder.partition("/")[0] in _RESERVED:
            continue
        own = paths.parse_partition(folder)
        if own is not None:
            schema = schemas.get(own.schema)
            own = own._replace(schema=schema.name) if schema is not None and _is_ours(own, schema) else None
        for name in names:
            if name.endswith(".parquet"):
                found[_key(folder, name)] = own if name == SILVER_FILE else None
    return dict(sorted(found.items()))


def dataset_folder(data_root: Path, name: str) -> Path:
    """Return the folder of a data set."""
    return path(data_root, Tier.SILVER, f"{_DATASETS}/{name}")


def dataset_files(data_root: Path, name: str) -> list[str]:
    """Return the files of a data set by their keys below its folder, in order."""
    walked = _walk(dataset_folder(data_root, name))
    return sorted(_key(folder, SILVER_FILE) for folder, names in walked if SILVER_FILE in names)


def gold_files(data_root: Path, schema: EventSchema) -> dict[str, Partition | None]:
    """Return the Parquet files of Gold's signals by their keys, in order; None for one that lies where none belongs.

    Args:
        data_root: the lake.
        schema: theirs.
    """
    found: dict[str, Partition | None] = {}
    for below, names in _walk(schema_folder(data_root, Tier.GOLD, schema)):
        folder = "/".join(filter(None, [*schema.name.split("."), below]))
        own = paths.parse_partition(folder)
        own = own if own is not None and _is_ours(own, schema) else None
        for name in names:
            if name.endswith(".parquet") and not name.startswith("."):
                found[f"{folder}/{name}"] = own if paths.is_gold_name(name) else None
    return dict(sorted(found.items()))


def gold_sizes(data_root: Path, schema: EventSchema) -> list[int]:
    """Return the bytes of each part of Gold's signals."""
    sizes = []
    for key in gold_files(data_root, schema):
        with suppress(FileNotFoundError):
            sizes.append(path(data_root, Tier.GOLD, key).stat().st_size)
    return sizes


def files_named(data_root: Path, tier: Tier, name: str) -> list[str]:
    """Return the folders of a tier that have a file of this name, by their keys in order."""
    return sorted(folder for folder, names in _walk(tier.of(data_root)) if name in names)


def drafts(data_root: Path, tier: Tier) -> list[Path]:
    """Return the drafts that a crash left in a tier."""
    return [
        path(data_root, tier, _key(folder, name))
        for folder, names in _walk(tier.of(data_root))
        for name in names
        if name.startswith(".") and name.endswith(".tmp")
    ]


def quarantine_descriptions(data_root: Path) -> list[Path]:
    """Return the descriptions of the messages in quarantine, in order."""
    base = quarantine(data_root)
    found = (base / folder / name for folder, names in _walk(base) for name in names)
    return sorted(file for file in found if file.suffix == ".json" and not file.name.startswith("."))


def _key(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the key of each folder below a root, itself the empty one, with the names of its files.

    Links to folders are not followed, and what this process may not list is passed over.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        files = []
        try:
            for entry in os.scandir(f"{root}/{folder}"):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(_key(folder, entry.name))
                else:
                    files.append(entry.name)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        yield folder, files


def _partition_of(folder: str) -> Partition | None:
    """Return the partition whose folder in Bronze this is."""
    own = paths.parse_partition(folder)
    schema = None if own is None else events.SCHEMAS.get(own.schema)
    return own if own is not None and schema is not None and _is_ours(own, schema) else None


def _is_ours(own: Partition, schema: EventSchema) -> bool:
    """Whether a schema's partitions are made as this one is."""
    return own.key == schema.partition_by and schema.hourly == (own.hour is not None)


def _shows_another_layout(key: str) -> bool:
    """Whether the folders of a Parquet file in no partition of ours contradict ours, and do not merely end too soon."""
    _, _, below = key.partition("bronze/")
    folder, _, name = below.rpartition("/")
    levels = folder.split("/")
    schema = _BY_FOLDER.get("/".join(levels[:2]))
    if schema is None:
        return paths.parse_partition(folder) is not None  # a schema that we do not know
    own = _partition_of(folder)
    if own is not None:
        return False
    expected = [f"{schema.partition_by}=", "date=", *(["hour="] if schema.hourly else [])]
    given = levels[2:]
    if any(not level.startswith(prefix) for level, prefix in zip(given, expected, strict=False)):
        return True
    if len(given) < len(expected):
        return paths.is_part_name(name)  # a part in a folder that would hold folders
    return len(given) == len(expected) or any("=" in level for level in given[len(expected) :])
