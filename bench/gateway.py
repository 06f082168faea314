"""Claim: with 100 pages open, of which 10 never read, the others have each frame within 50 ms at p99, and rows are
durable as soon as with none.

The delay is from the moment a state is made in the daemon to its receipt in another process, which follows with 90
pages and stalls with 10. One daemon records the simulated market at its default rate; spans with pages and without take
turns, and of each the syncs are what the daemon's own histogram says. Bytes a second are those of one page.
"""

import asyncio
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from pathlib import Path

from websockets.asyncio.client import connect

from bench.rounds import Figures, report, spread

ROUNDS = 5
SPAN_S = 10.0
PAGES, STALLED = 90, 10
WARM_UP_S = 75.0  # until levels have scores, and frames are as large as they get
AT = re.compile(r'"at_ns":(\d+)')


def daemon(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a daemon; return it and its page's address."""
    roots = ["--data-root", str(folder / "lake"), "--wal-root", str(folder / "wal")]
    environment = os.environ | {"GATEWAY_PORT": "0"}
    command = [sys.executable, "-m", "spymaster", "run", *roots]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"url=(http://\S+)", line):
            return process, found[1]
    raise RuntimeError("the daemon ended by itself")


def syncs(url: str) -> tuple[list[tuple[float, float]], float]:
    """Return how many syncs took at most each bound, and what all took together."""
    text = urllib.request.urlopen(f"{url}metrics").read().decode()  # noqa: S310 - loopback
    found = re.findall(r'sync_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
    total = re.search(r"sync_seconds_sum (\S+)", text)
    assert total is not None
    return [(float(bound), float(count)) for bound, count in found], float(total[1])


def between(before: tuple[list[tuple[float, float]], float], after: tuple[list[tuple[float, float]], float]) -> Figures:
    """Return what syncs between two looks took, ms; the percentile is a bucket's upper bound."""
    counts = [(bound, new - old) for (bound, new), (_, old) in zip(after[0], before[0], strict=True)]
    n = counts[-1][1]
    p99 = next(bound for bound, count in counts if count >= 0.99 * n)
    return {"syncs": n, "sync_mean_ms": (after[1] - before[1]) / max(n, 1) * 1e3, "sync_p99_below_ms": p99 * 1e3}


def stalling(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(("127.0.0.1", port))
    made.sendall(
        f"GET /ws/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return made


async def followed(url: str) -> Figures:
    """Follow with all pages for a span; return delays and bytes."""
    delays: list[float] = []
    sent = 0

    async def follow(until: float) -> None:
        nonlocal sent
        async with connect(f"ws{url[4:]}ws/stream", compression=None, max_size=None) as page:
            await page.recv()  # the first state is as old as it is
            while time.monotonic() < until:
                frame = await page.recv()
                sent += len(frame)
                if '"type":"full"' not in frame[:20] and (found := AT.search(frame[:80])):  # it says an older state
                    delays.append((time.time_ns() - int(found[1])) / 1e6)

    port = int(url.rstrip("/").rsplit(":", 1)[1])
    stalled = [stalling(port) for _ in range(STALLED)]
    try:
        await asyncio.gather(*(follow(time.monotonic() + SPAN_S) for _ in range(PAGES)))
    finally:
        for one in stalled:
            one.close()
    delays.sort()
    p50, p99 = (delays[math.ceil(share * len(delays)) - 1] for share in (0.5, 0.99))
    return {"frame_p50_ms": p50, "frame_p99_ms": p99, "frames": len(delays), "page_bytes_s": sent / PAGES / SPAN_S}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        process, url = daemon(Path(folder))
        try:
            time.sleep(float(os.environ.get("WARM_UP_S", WARM_UP_S)))
            alone: list[Figures] = []
            shown: list[Figures] = []
            for done in range(int(os.environ.get("ROUNDS", ROUNDS))):
                before = syncs(url)
                time.sleep(SPAN_S)
                middle = syncs(url)
                frames = asyncio.run(followed(url))
                alone.append(between(before, middle))
                shown.append(between(middle, syncs(url)) | frames)
                print(f"round {done + 1}", file=sys.stderr)
        finally:
            process.send_signal(signal.SIGTERM)
            with closing(process.stderr):  # type: ignore[type-var]
                process.wait(60)
    report(__doc__ or "", {"without_pages": spread(alone), "with_pages": spread(shown)})


if __name__ == "__main__":
    main()
