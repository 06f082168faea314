"""Claim: Massive's websocket frames become record batches at more than a million events a second.

Frames of 20 mixed stock trades and quotes, with 50 and with 250 frames a call, as a tick accumulates them: 5 ms of a
million events a second are 250 frames. Baselines: the `json` module with a list for each column; our own slow way,
value by value; and, given only the decoding, which is the smaller half of their way to columns, msgspec's typed objects
and pyarrow's JSON reader over the events sorted by kind. Rows are of one symbol, and once of 500.
"""

import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
from pyarrow.json import ParseOptions, ReadOptions, read_json

from bench.rounds import Figures, interleave, report
from spymaster.clock import NS_PER_MS
from spymaster.events.encoding import MassiveFrames
from spymaster.normalize.massive import frames as frames_module
from spymaster.normalize.massive.fields import FRAMES
from spymaster.normalize.massive.frames import FrameNormalizer
from spymaster.normalize.massive.values import MAX_MS, batch_of

FRAMES_SENT = 5_000
EVENTS = 20
FRAMES_A_CALL = (50, 250)
SYMBOLS = 500
ROUNDS = 5
RECEIVED_NS = 1_790_000_000_000_000_000


def frames(symbols: int = 1) -> list[bytes]:
    rng = random.Random(1)  # noqa: S311 - the same market each time
    made = []
    for frame in range(FRAMES_SENT):
        events = [event(rng, frame * EVENTS + number) for number in range(EVENTS)]
        for some in events if symbols > 1 else []:
            some["sym"] = f"S{rng.randrange(symbols)}"
        made.append(json.dumps(events, separators=(",", ":")).encode())
    return made


def event(rng: random.Random, number: int) -> dict[str, Any]:
    cents, millis = rng.randint(60_000, 60_099), 1_790_000_000_000 + number
    if rng.random() < 0.5:
        quote = {"ev": "Q", "sym": "SPY", "bx": rng.randint(1, 21), "bp": cents / 100, "bs": rng.randint(1, 900)}
        quote |= {"ax": rng.randint(1, 21), "ap": (cents + 1) / 100, "as": rng.randint(1, 900), "c": 1}
        return quote | ({"i": [604]} if rng.random() < 0.2 else {}) | {"t": millis, "q": number + 50_000_000, "z": 2}
    trade = {"ev": "T", "sym": "SPY", "x": rng.randint(1, 21), "i": str(number + 52_983), "z": 2, "p": cents / 100}
    trade |= {"s": rng.randint(1, 500), "c": [12, 37][: rng.randint(0, 2)], "t": millis, "q": number + 3_000_000}
    return trade | ({"trfi": 201, "trft": millis - 1} if rng.random() < 0.4 else {}) | {"pt": millis - 2, "ds": "100"}


def normalizer(calls: list[list[bytes]]) -> int:
    ours = FrameNormalizer(MassiveFrames("stocks", "ALL"), origin="massive")
    rows = 0
    for call in calls:
        done = ours.normalize([(frame, RECEIVED_NS) for frame in call])
        rows += sum(batch.num_rows for _, batch in done.batches)
    return rows


def slow_way(calls: list[list[bytes]]) -> int:
    """Read value by value what the scanner would take: as where numba has no package."""
    with patch.object(frames_module, "_plain_frames", return_value=None):
        return normalizer(calls)


def decoding(calls: list[list[bytes]]) -> int:
    """Decode only, into typed objects."""
    return sum(len(TYPED.decode(frame)) for call in calls for frame in call)


def typed(kind: str) -> Any:
    """Define a struct of what the vendor sends."""
    types: dict[str, Any] = {"price": float, "text": str, "ticker": str, "codes": list[int]}
    fields = [(key, types.get(f.unit, int) | None, None) for key, f in FRAMES["stocks"][kind].fields.items()]
    return msgspec.defstruct(kind, fields, tag_field="ev", tag=kind, gc=False)


TYPED = msgspec.json.Decoder(list[typed("T") | typed("Q")])  # type: ignore[misc]


def json_module(calls: list[list[bytes]]) -> int:
    """Do what one would write first: a dictionary for each event, a list for each column."""
    rows = 0
    for call in calls:
        events = [event for frame in call for event in json.loads(frame)]
        for kind, channel in FRAMES["stocks"].items():
            mine = [event for event in events if event["ev"] == kind]
            columns = {}
            for key, field in channel.fields.items():
                values: list[Any] = [event.get(key) for event in mine]
                if field.unit == "ms":
                    values = [value if value is None else min(value, MAX_MS) * NS_PER_MS for value in values]
                if field.unit == "code":
                    values = [[value] for value in values]
                columns[field.column] = pa.array(values, channel.schema.log.field(field.column).type)
            received = pa.array([RECEIVED_NS] * len(mine), pa.int64())
            rows += batch_of(channel.schema, columns, "massive.stocks", received).num_rows
    return rows


def arrow_json(calls: list[list[bytes]]) -> int:
    """Decode only."""
    rows = 0
    for call in calls:
        pieces = b"},{".join([frame[2:-2] for frame in call]).split(b"},{")
        for kind, channel in FRAMES["stocks"].items():
            begin = f'"ev":"{kind}",'.encode()
            lines = b"{" + b"}\n{".join([piece for piece in pieces if piece.startswith(begin)]) + b"}"
            kinds = {
                key: pa.int16() if field.unit == "code" else channel.schema.log.field(field.column).type
                for key, field in channel.fields.items()
            }
            options = ParseOptions(explicit_schema=pa.schema(kinds), unexpected_field_behavior="ignore")
            rows += read_json(pa.BufferReader(lines), ReadOptions(use_threads=False), options).num_rows
    return rows


def timed(way: Callable[[list[list[bytes]]], int], calls: list[list[bytes]]) -> Figures:
    began, worked = time.perf_counter(), time.process_time()
    assert way(calls) == FRAMES_SENT * EVENTS
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    return {"rows_per_s": FRAMES_SENT * EVENTS / wall, "rows_per_cpu_s": FRAMES_SENT * EVENTS / cpu}


def in_calls(sent: list[bytes], count: int) -> list[list[bytes]]:
    return [sent[at : at + count] for at in range(0, len(sent), count)]


def main() -> None:
    sent = frames()
    results: dict[str, object] = {}
    for count in FRAMES_A_CALL:
        calls = in_calls(sent, count)
        ours = partial(timed, normalizer, calls)
        results[f"{count} frames a call, over the json module"] = interleave(
            ours, partial(timed, json_module, calls), ROUNDS
        )
        results[f"{count} frames a call, over msgspec, decoding only"] = interleave(
            ours, partial(timed, decoding, calls), ROUNDS
        )
    results[f"{count} frames a call, over the slow way"] = interleave(ours, partial(timed, slow_way, calls), ROUNDS)
    results[f"{count} frames a call, over pyarrow.json, decoding only"] = interleave(
        ours, partial(timed, arrow_json, calls), ROUNDS
    )
    calls = in_calls(frames(SYMBOLS), count)
    results[f"{count} frames a call of {SYMBOLS} symbols, over the json module"] = interleave(
        partial(timed, normalizer, calls), partial(timed, json_module, calls), ROUNDS
    )
    report("Massive's frames of 20 to record batches", results)


if __name__ == "__main__":
    main()
