"""A real daemon in a process of its own, with a bus reader that prints what is acknowledged. Killed by tests.

Each line is `schema/symbol capture_id first_seq last_seq` of one published batch, whose numbers have no hole.
"""

import asyncio
import sys

from spymaster import settings
from spymaster.bus import Subscription
from spymaster.daemon import Daemon


async def report(subscription: Subscription) -> None:
    async for stream, batch in subscription:
        numbers = batch["capture_seq"]
        first, last = numbers[0].as_py(), numbers[-1].as_py()
        assert last - first + 1 == batch.num_rows
        print(stream, batch["capture_id"][0].as_py(), first, last, flush=True)


async def main(source: str, speed: float) -> None:
    daemon = Daemon(settings.load(), [source], speed)
    reading = asyncio.create_task(report(daemon.bus.subscribe()))
    await daemon.run()
    await reading
    print("drained", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
