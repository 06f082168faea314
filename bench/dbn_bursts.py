"""Claim: small messages of a live gateway, given many at a time, become rows at 30 times the speed of one at a time.

MBP-10 in messages of 4 KB, 12 records, in bursts of 256, as a loaded loop takes them. Baselines: the same bytes in
messages of 512 KB, one a call, which is the most that can be gained; and the 4 KB messages one a call.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

from bench.market import BOOK_BYTES, START_NS, write_books
from bench.rounds import Figures, interleave, report
from spymaster.events.encoding import Dbn
from spymaster.normalize.databento.normalizer import DatabentoNormalizer

RECORDS = 200_000
SMALL_BYTES, LARGE_BYTES = 12 * BOOK_BYTES, 512 * 1024
BURST = 256
ROUNDS = 5


def timed(header: bytes, data: bytes, message_bytes: int, burst: int) -> Figures:
    normalizer = DatabentoNormalizer(Dbn(header), origin="bench")
    starts = range(0, len(data), message_bytes)
    messages = [(data[at : at + message_bytes], START_NS + number) for number, at in enumerate(starts)]
    began, worked = time.perf_counter(), time.process_time()
    rows = 0
    for at in range(0, len(messages), burst):
        rows += sum(batch.num_rows for _, batch in normalizer.normalize(messages[at : at + burst]).batches)
    wall, cpu = time.perf_counter() - began, time.process_time() - worked
    assert rows == len(data) // BOOK_BYTES
    return {"rows_per_s": rows / wall, "rows_per_cpu_s": rows / cpu}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "books.dbn")
        write_books(path, RECORDS)
        content = path.read_bytes()
    begin = len(content) - RECORDS * BOOK_BYTES
    header, data = content[:begin], content[begin:]
    bursts = partial(timed, header, data, SMALL_BYTES, BURST)
    few = data[: RECORDS // 10 * BOOK_BYTES]
    results: dict[str, object] = {
        "over messages of 512 KB, one a call": interleave(bursts, partial(timed, header, data, LARGE_BYTES, 1), ROUNDS),
        "over messages of 4 KB, one a call": interleave(bursts, partial(timed, header, few, SMALL_BYTES, 1), ROUNDS),
    }
    report(f"MBP-10 in messages of 4 KB, {BURST} a call, to record batches", results)


if __name__ == "__main__":
    main()
