"""What a service manager is told, over a real datagram socket such as systemd's."""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from spymaster import settings
from spymaster.service_manager import Manager, ServiceManager
from tests.command_line import clean_environment

REPOSITORY = Path(__file__).parents[1]
UNIT = REPOSITORY / "service" / "spymaster.service"


@contextmanager
def manager(address):
    """Listen as a manager does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        listening.settimeout(60)
        yield listening


def words(listening, until):
    """Return what is said until a word comes."""
    said = []
    while until not in said:
        said.append(listening.recv(1_000).decode())
    return said


def test_a_daemon_is_ready_once_it_records_alive_while_its_loop_turns_and_stopping_when_it_is_told(tmp_path):
    address = str(tmp_path / "notify.sock")
    environment = clean_environment(
        PYTHONPATH=str(REPOSITORY), DATA_ROOT=str(tmp_path / "lake"), WAL_ROOT=str(tmp_path / "wal"),
        NOTIFY_SOCKET=address, WATCHDOG_USEC="200000",
    )  # fmt: skip
    command = [sys.executable, "-m", "spymaster", "run", "--source", "sim:rate=100", "--no-gateway"]
    with manager(address) as listening:
        daemon = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            first = words(listening, "WATCHDOG=1")
            began = next(line for line in daemon.stderr if "recording.began" in line)
            alive = [listening.recv(1_000).decode() for _ in range(3)]
            daemon.terminate()
            last = words(listening, "STOPPING=1")
            for _ in daemon.stderr:
                pass
            assert daemon.wait(60) == 0
        finally:
            daemon.kill()
            daemon.wait()
            daemon.stderr.close()

    assert first == ["READY=1", "WATCHDOG=1"]
    assert began
    assert alive == ["WATCHDOG=1"] * 3
    assert set(last) - {"WATCHDOG=1"} == {"STOPPING=1"}


def test_a_name_that_begins_with_an_at_sign_is_an_abstract_socket():
    address = f"@spymaster-{os.getpid()}"

    with manager(address) as listening:
        ServiceManager(Manager(address, None)).stopping()
        assert listening.recv(1_000) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify.sock", "x" * 500])
def test_without_a_manager_or_one_that_is_gone_nothing_is_said_and_nothing_ends(address):
    async def run():
        told = ServiceManager(Manager(address or None, 0.01))
        told.began()
        await asyncio.sleep(0.05)
        told.stopping()
        told.ended()

    asyncio.run(run())


@pytest.mark.parametrize(("usec", "pid", "seconds"), [
    ("60000000", None, 60.0), ("60000000", "ours", 60.0), ("60000000", "1", None), ("0", None, None),
    ("soon", None, None), (None, None, None),
])  # fmt: skip
def test_the_watchdog_is_meant_for_the_process_that_it_names(monkeypatch, usec, pid, seconds):
    named = str(os.getpid()) if pid == "ours" else pid  # workers of one run must agree on the names of tests
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", named), ("NOTIFY_SOCKET", None)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    assert settings.service_manager() == Manager(None, seconds)


def test_the_unit_waits_for_ready_has_a_user_of_its_own_and_may_write_nowhere_else():
    lines = set(UNIT.read_text().splitlines())

    assert {"Type=notify", "User=spymaster", "NoNewPrivileges=yes", "ProtectSystem=strict", "WatchdogSec=60"} <= lines
    assert any(line.startswith("Environment=") and "GATEWAY_HOST=127.0.0.1" in line for line in lines)
