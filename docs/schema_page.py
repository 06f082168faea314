"""Makes the page of schemas: what lies in files and views, every column with its type, its unit and its meaning."""

import importlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from docs.markdown import MADE, cell
from docs.signals_schema import NAME as SIGNALS_SCHEMA
from spymaster import events
from spymaster.events import EventSchema
from spymaster.lake import layout, silver
from spymaster.lake.datasets import DATASETS, DataSet
from spymaster.lake.gold import FILES, FROM, VERSION
from spymaster.query.lake import Lake

_LEVEL: Final = re.compile(r"_\d+$")  # of a book, in a column's name

# The unit of every number in a file: of the first that matches `schema.column`.
UNITS: Final = (
    (r".*_ns", "ns"),
    (r"futures\..*\.(price|\w+_px_\d+)", "index points"),
    (r"reference\.statistics\.price", "of its kind: index points, dollars, volatility or delta"),
    (r"reference\..*\.(strike|min_price_increment)", "index points; of stocks and their options dollars"),
    (r"system\.zones\.price", "of the underlying"),
    (r"system\.alerts\.level_price", "of the underlying"),
    (r"system\.alerts\.value", "of its kind: points, ms or s"),
    (r"stocks\..*\.(price|bid_px|ask_px)", "dollars"),
    (r"options\..*\.(price|strike|\w+_px|opt_bid|opt_ask|bid|ask|underlying_price)", "dollars; of ES index points"),
    (r"stocks\..*\.(size|\w+_sz)", "shares"),
    (r".*\.(size|\w+_sz(_\d+)?|volume|open_interest|quantity)", "contracts"),
    (r".*\.\w+_ct(_\d+)?", "orders"),
    (r".*\.delta", "dollars per dollar of the underlying"),
    (r".*\.gamma", "delta per dollar of the underlying"),
    (r".*\.theta", "dollars per day"),
    (r".*\.vega", "dollars per volatility point"),
    (r".*\.implied_volatility", "1 is 100 % a year"),
    (r".*\.delta_notional", "units of the underlying"),
    (r".*\.gamma_notional", "units of the underlying per dollar of it"),
    (r".*\.(shares_per_contract|unit_of_measure_qty|contract_multiplier)", "units a contract"),
    (r".*\.depth", "level"),
    (r".*\.sample_s", "s"),
    (r".*\.rows", "rows"),
    (r".*\.hour", "hours"),
    (r".*\.(aggressor|exchange|\w+_exch|\w+_code|flags|stat_flags|tape|correction|late_correction)", "code"),
    (r".*\.(seq|\w+_seq|occurrence|normalizer_version)", "number"),
    (r".*\.(\w+_id|event_id)", "id"),
)
COMPUTED: Final = {
    "session_date": "the trading day: of CME's instruments from 17:00 Chicago of the evening before to 17:00, of US "
    "equities and their options the New York date from 04:00 to 20:00; null outside of both, and for `system.*`",
    "is_rth": "regular trading hours: 09:30 to 16:00 New York, to 13:00 on a half day, of the US equities' trading "
    "days, for CME's instruments too; null outside of the calendar's years, and for `system.*`",
}


def schemas() -> str:
    """Return docs/schemas.md."""
    lines = [
        MADE, "# Schemas", "",
        "Every event, every column. A column that may be null is marked `?`. Prices are float64, null where the venue "
        "says undefined; times in `_ns` are int64 nanoseconds since 1970, UTC; how long something took is in "
        "nanoseconds too. What a program and the command line do with them: [interfaces.md](interfaces.md).", "",
        "## Where a row lies", "",
        "| where | its columns |", "|---|---|",
        "| the log, the bus | the schema's |",
        "| `bronze/{asset}/{type}/...` | these and `date`, `hour`, which are also its folder |",
        "| `gold/levels/signals/...` | those of [levels.signals](#levelssignals) and `date`, `hour` |",
        "| `silver/{asset}/{type}/...` | these and `event_id`, `occurrence`; of trades of stocks and options what "
        "became of them later; of option trades also the greeks |",
        "| views in SQL | a tier's, with `date` as a DATE, and what is computed (below) |", "",
        "`futures_trades` is the one table: Silver, Bronze that is not in it yet, and the log, with Silver's columns "
        "but for the greeks, without prints that a later file cancels; `occurrence` is null where none is compacted. "
        "`bronze_futures_trades` is Bronze as received, `silver_futures_trades` Silver as compacted. So for every "
        "schema.", "",
        *_computed(), *_arrow_names(),
        *(line for schema in events.SCHEMAS.values() for line in _schema(schema)),
        *_gold(),
        "## Data sets", "",
        "What is made of whole sessions: [datasets.md](datasets.md).", "",
        *(line for dataset in DATASETS.values() for line in _dataset(dataset)),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _computed() -> Iterator[str]:
    yield from ("## What views compute", "", "| column | type | meaning |", "|---|---|---|")
    for name, kind in computed_columns().items():
        yield f"| `{name}` | {kind} | {COMPUTED[name]} |"
    yield ""


def computed_columns() -> dict[str, str]:
    """Return the columns that any view has and no file, with their SQL types."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, Lake(Path(folder, "lake"), Path(folder, "wal")) as lake:
        for schema in events.SCHEMAS.values():
            files = {*silver.columns_of(schema).names}
            for view in _views(schema):
                columns = lake.execute(f"describe {view}").fetchall()
                found |= {str(name): str(kind) for name, kind, *_ in columns if name not in files}
    return found


def _views(schema: EventSchema) -> list[str]:
    plain, enriched = (name.replace(".", "_") for name in (schema.name, layout.silver_name(schema)))
    return [plain, f"bronze_{plain}", *(f"silver_{name}" for name in dict.fromkeys([plain, enriched]))]


def _arrow_names() -> Iterator[str]:
    yield from ("## Arrow schemas by the names of the seeds", "")
    home = importlib.import_module("spymaster.events")
    by_id = {id(schema.log): name for name, schema in events.SCHEMAS.items()}
    yield from ("| `from spymaster.events import` | schema |", "|---|---|")
    for name in sorted(home.__all__):
        if (known := by_id.get(id(getattr(home, name)))) is not None:
            yield f"| `{name}` | `{known}` |"
    yield ""


def _schema(schema: EventSchema) -> Iterator[str]:
    hour = "/hour=HH" if schema.hourly else ""
    folder = schema.name.replace(".", "/")
    views = _views(schema) if schema.kind == "market" else _views(schema)[:2]
    yield from (f"## {schema.name}", "")
    yield f"Version {schema.version}, in `bronze/{folder}/{schema.partition_by}=X/date=YYYY-MM-DD{hour}/`. Views: "
    yield f"{', '.join(f'`{view}`' for view in views)}."
    if schema.kind == "market":
        named = [name for name in schema.identity if name is not None and not _LEVEL.search(name)]
        book = " and the whole book" if any(_LEVEL.search(name or "") for name in schema.identity) else ""
        yield f"`event_id` is made of source, time, {', '.join(f'`{name}`' for name in named)}{book}. By which keys "
        yield "deliveries are told to be one event: [silver.md](silver.md#the-rule)."
    yield ""
    if schema.kind == "own":
        yield from ("It is our own: it has no Silver, and is never archived.", "")
    yield from ("| column | type | unit | meaning |", "|---|---|---|---|")
    yield from _rows(schema, schema.log)
    yield from _rows(schema, list(schema.bronze)[len(schema.log) :], where="files: ")
    if schema.kind == "market":
        yield from _rows(schema, list(silver.columns_of(schema))[len(schema.bronze) :], where="Silver: ")
    yield ""


def _dataset(dataset: DataSet) -> Iterator[str]:
    folder = "".join(f"{key}=X/" for key in dataset.keys[:-1])
    yield from (f"### {dataset.name}", "")
    yield f"In `silver/datasets/{dataset.name}/{folder}date=YYYY-MM-DD/`. View: `{dataset.name}`."
    yield from ("", "| column | type | meaning |", "|---|---|---|")
    for name, column, meaning in _columns(dataset.name, dataset.columns):
        yield f"| {name} | {_type(column)} | {meaning} |"
    yield ""


def _gold() -> Iterator[str]:
    yield from ("## levels.signals", "")
    yield f"Version {VERSION}, in `gold/levels/signals/underlying=X/date=YYYY-MM-DD/hour=HH/`. View: `levels_signals`."
    yield "A row is a level in sight at a snap. What the engines' words mean says [engines.md](engines.md), by the"
    yield "engines' names for columns, which are shown where they are others. As JSON:"
    yield f"[{SIGNALS_SCHEMA}]({SIGNALS_SCHEMA})."
    yield from ("", "| column | type | of the engines | meaning |", "|---|---|---|---|")
    for column in FILES:
        own = FROM.get(column.name, column.name)
        source = f"`{own}`" if own != column.name else ""
        null = "?" if column.nullable else ""
        meaning = (column.metadata or {})[b"meaning"].decode()
        yield f"| `{column.name}` | {arrow_type(column.type)}{null} | {source} | {cell(meaning)} |"
    yield ""


def _rows(schema: EventSchema, columns: Iterable[pa.Field], where: str = "") -> Iterator[str]:
    """Yield a line per column."""
    for name, column, meaning in _columns(schema.name, columns):
        yield f"| {name} | {_type(column)} | {unit(schema.name, column)} | {where}{meaning} |"


def _columns(schema: str, columns: Iterable[pa.Field]) -> Iterator[tuple[str, pa.Field, str]]:
    """Yield each column's name and meaning; the levels of a book are one, as they differ in their number alone."""
    for column in columns:
        level = _LEVEL.search(column.name)
        if level and level[0] != "_1":
            continue
        name = f"`{column.name}`" + (f" to `{column.name[: level.start()]}_{events.BOOK_LEVELS}`" if level else "")
        meaning = (column.metadata or {}).get(b"meaning", b"").decode()
        if not meaning:
            raise ValueError(f"{schema}: {column.name} has no meaning. Next: say it where the column is declared")
        if level:
            meaning = meaning.replace("level 1", "the level")
        yield name, column, cell(meaning)


def _type(column: pa.Field) -> str:
    return f"{arrow_type(column.type)}{'?' if column.nullable else ''}"


def arrow_type(kind: pa.DataType) -> str:
    """Spell an Arrow type, without the names that versions of Arrow give its parts."""
    if pa.types.is_map(kind):
        return f"map of {arrow_type(kind.key_type)} to {arrow_type(kind.item_type)}"
    return f"list of {arrow_type(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


def unit(schema: str, column: pa.Field) -> str:
    """Return the unit of a number; nothing for what is none.

    Raises:
        ValueError: nobody said it.
    """
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return ""
    for pattern, name in UNITS:
        if re.fullmatch(pattern, f"{schema}.{column.name}"):
            return name
    raise ValueError(f"{schema}: {column.name} has no unit. Next: say it in UNITS of docs/schema_page.py")
