"""A run that a person can follow: a bad message, files that do not read, a full disk, SIGTERM. `python -m` it.

The tests run it for some seconds, `python -m tests.long.journal 60` for a minute, and prints what it wrote.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.command_line import clean_environment
from tests.normalize.dbn_bytes import es_header, record, trade
from tests.small_disk import small_disk

SECRETS = {"DATABENTO_API_KEY": "db-markedkey7", "MASSIVE_API_KEY": "mk marked/key8", "POLYGON_API_KEY": "pk-marked9"}
PATIENCE_S = 60


class Trial(NamedTuple):
    """What a run left: its exit code, its journal, all of stderr, its summary."""

    code: int
    lines: list[str]
    stderr: str
    summary: dict


def run(folder: Path, seconds: float, *, form: str, to_file: bool) -> Trial:
    """Record for at least so long, with everything in the run that the journal has to tell.

    Args:
        folder: an empty one.
        seconds: a third of it before the disk is full, while it is, and after.
        form: of its lines.
        to_file: whether they go to `LOG_FILE` instead of stderr.
    """
    sources = folder / "sources"
    sources.mkdir()
    truncated = sources / f"{SECRETS['DATABENTO_API_KEY']}.dbn"  # so that errors name the secret
    truncated.write_bytes(es_header() + trade() * 100 + record(10) + trade() * 100 + trade()[:20])
    foreign = sources / f"{SECRETS['POLYGON_API_KEY']}.csv"
    foreign.write_text("no,day,file\n1,2,3\n")
    file, stderr = folder / "journal", folder / "stderr"
    journal = file if to_file else stderr
    with small_disk(folder / "disk", 64) as disk, stderr.open("wb") as err:
        environment = clean_environment(
            **SECRETS,
            DATA_ROOT=str(disk.root / "lake"),
            WAL_ROOT=str(disk.root / "wal"),
            FLUSH_INTERVAL_SEC="1",
            WAL_SEGMENT_SIZE_MB="1",
            DISK_RESERVE_MB="4",
            LOG_FORMAT=form,
            LOG_FILE=str(file) if to_file else "",
        )
        named = ["sim-es:rate=2000", f"dbn:{truncated}", f"flatfile:{foreign}"]
        command = [sys.executable, "-m", "spymaster", "run", "--json", *(f"--source={source}" for source in named)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=err, text=True)
        try:
            _until(journal, "source.refused", process)
            time.sleep(seconds / 3)
            disk.leave(0)
            _until(journal, "ingest_stopped", process)
            time.sleep(seconds / 3)
            disk.free()
            _until(journal, "gap.recorded", process)
            time.sleep(seconds / 3)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()
    return Trial(process.returncode, journal.read_text().splitlines(), stderr.read_text(), json.loads(out))


def _until(journal: Path, word: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not journal.exists() or word not in journal.read_text():
        assert process.poll() is None, f"the run ended before it told of {word}"
        assert time.monotonic() < deadline, f"{word} was not told"
        time.sleep(0.05)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as root:
        done = run(Path(root), float((sys.argv[1:] or ["60"])[0]), form=os.getenv("LOG_FORMAT", "text"), to_file=False)
        sys.stdout.write("\n".join(done.lines) + "\n")
