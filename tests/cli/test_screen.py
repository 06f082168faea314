"""A run whose terminal is paused, as by Ctrl-S: nobody reads what it draws."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.command_line import clean_environment


@pytest.fixture
def paused_terminal():
    ours, theirs = os.openpty()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while True:
            os.write(theirs, b"full ")
    os.set_blocking(theirs, True)
    yield theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("log_file", ["", "journal.log"])
def test_a_paused_terminal_does_not_hold_up_the_recording(tmp_path, paused_terminal, log_file):
    environment = clean_environment(DATA_ROOT="data", WAL_ROOT="wal", LOG_FILE=log_file)
    command = [sys.executable, "-m", "spymaster", "run", "--source", "sim-es:rate=500", "--duration", "1"]

    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=paused_terminal, env=environment, cwd=tmp_path, timeout=60
    )

    assert ended.returncode == 0
    assert b"complete" in ended.stdout
    assert list((tmp_path / "data" / "bronze" / "futures" / "mbp10").rglob("part-*.parquet"))
