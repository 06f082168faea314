"""The daemon that says what it acknowledges, with the settings of its environment: `SOURCE SPEED`. Killed by tests."""

import asyncio
import sys

from spymaster import settings
from spymaster.proof.killed_daemon import record

if __name__ == "__main__":
    asyncio.run(record(settings.load(), sys.argv[1], float(sys.argv[2])))
    print("drained", flush=True)
