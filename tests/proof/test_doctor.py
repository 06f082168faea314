"""`spymaster doctor`: what it says of this machine, and each check seen to fail on a planted fault."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spymaster import clock, settings
from spymaster.proof import doctor
from spymaster.proof.doctor import Latency
from tests.command_line import spymaster
from tests.packages import install

REPOSITORY = Path(__file__).parents[2]


def run_doctor(folder, *arguments, **environment):
    """Run the command in a folder; return its exit code and its checks by name."""
    done = spymaster("doctor", "--json", *arguments, environment=os.environ | environment, folder=folder)
    document = done.document
    assert document["fit"] == (done.returncode == 0), done.stderr
    return done, {check["name"]: check for check in document["checks"]}


def test_the_doctor_looks_at_everything_and_changes_nothing(tmp_path):
    done, checks = run_doctor(tmp_path)

    assert done.returncode in (0, 1)
    failed = {name for name, check in checks.items() if check["verdict"] == "FAIL"}
    assert failed <= {"WAL_ROOT disk", "DATA_ROOT disk", "WAL_ROOT space", "DATA_ROOT space", "open files"}
    for name in (
        "Python",
        "packages",
        "Massive's client",
        "clock",
        "time zones",
        "sync of 64 KiB",
        "sync of a new name",
        "memory",
        "daemon",
    ):
        assert name in checks
    assert "p99" in checks["sync of 64 KiB"]["found"]
    for check in checks.values():
        assert (check["verdict"] == "OK") == (check["advice"] == ""), check
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_is_exit_1_and_says_what_to_do(tmp_path):
    (tmp_path / "wal").write_text("a file")

    done, checks = run_doctor(tmp_path)

    assert done.returncode == 1
    assert checks["WAL_ROOT"]["verdict"] == checks["sync"]["verdict"] == "FAIL"
    assert checks["WAL_ROOT"]["advice"] == "choose another folder with WAL_ROOT"
    assert (tmp_path / "wal").read_text() == "a file"


def test_keys_are_known_to_be_set_and_never_shown(tmp_path):
    done, checks = run_doctor(tmp_path, DATABENTO_API_KEY="db-topsecret", POLYGON_API_KEY="")

    assert "topsecret" not in done.stdout + done.stderr
    assert checks["keys"]["verdict"] == "WARN"
    assert checks["keys"]["found"] == "POLYGON_API_KEY is set and empty"
    keys = doctor.check_keys(settings.load(databento_api_key="db-topsecret", polygon_api_key=None))
    assert "DATABENTO_API_KEY set" in keys.found
    assert "topsecret" not in keys.found


def test_a_wrong_python_and_wrong_packages_fail():
    assert doctor.check_python("3.10.2", ">=3.11,<3.14").verdict == "FAIL"
    assert doctor.check_packages(["pyarrow>=21", 'polars>=999; extra == "polars"']).verdict == "OK"
    assert doctor.check_packages(["pyarrow>=999"]).found.endswith("is not >=999")
    assert doctor.check_packages(["no-such-package>=1"]).found == "no-such-package is missing (>=1)"
    assert doctor.check_packages([]).verdict == "WARN"


def test_a_package_that_another_machine_needs_is_not_missing_here():
    elsewhere = "no-such-package>=1; sys_platform == 'plan9' or platform_machine == 'pdp11'"

    assert doctor.check_packages(["pyarrow>=21", elsewhere]).verdict == "OK"
    assert doctor.check_packages([elsewhere.replace("==", "!=")]).verdict == "FAIL"


def test_the_python_that_pyproject_names_is_compared_as_installers_do():
    assert [doctor.check_python(version, ">=3.11,<3.14").verdict for version in ("3.11.7", "3.13.0", "3.14.0")] == [
        "OK", "OK", "FAIL",
    ]  # fmt: skip


def test_the_old_name_of_massives_client_will_do_and_its_old_api_will_not(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert doctor.check_massive_client().verdict == "FAIL"

    install(tmp_path, "polygon-api-client", "0.2.11")
    check = doctor.check_massive_client()
    assert (check.verdict, check.found) == ("FAIL", "polygon-api-client 0.2.11 is not >=1.15")
    assert 'pip install "massive>=2.9"' in check.advice

    install(tmp_path, "massive", "2.9.1")
    assert doctor.check_massive_client().verdict == "OK"


def test_a_clock_before_the_newest_file_fails(tmp_path):
    loaded = settings.load(wal_root=tmp_path, data_root=tmp_path / "lake")
    assert doctor.check_clock(loaded).verdict != "FAIL"
    tomorrow_ns = clock.utc_now_ns() + 24 * clock.NS_PER_HOUR
    (tmp_path / "futures_trades_ES.arrow").write_bytes(b"")
    os.utime(tmp_path / "futures_trades_ES.arrow", ns=(tomorrow_ns, tomorrow_ns))

    check = doctor.check_clock(loaded)

    assert check.verdict == "FAIL"
    assert "before the newest file" in check.found


MOUNTS = r"""
/dev/sda1 / ext4 rw 0 0
tmpfs /ram tmpfs rw 0 0
server:/export /mnt/the\040share nfs4 rw 0 0
C:\134 /mnt/c 9p rw 0 0
/dev/sdb1 /mnt/the\040share/local xfs rw 0 0
overlay /container overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "verdict", "found"),
    [
        ("/disk/wal", "OK", "ext4 at /, local"),
        ("/ram/wal", "FAIL", "tmpfs at /ram is memory"),
        ("/ramble/wal", "OK", "ext4 at /, local"),
        ("/mnt/the share/wal", "FAIL", "nfs4 at /mnt/the share is a network file system"),
        ("/mnt/the share/local/wal", "OK", "xfs at /mnt/the share/local, local"),
        ("/mnt/c/wal", "WARN", "9p at /mnt/c is shared by a host"),
        ("/container/wal", "WARN", "overlay at /container is a container's layer"),
    ],
)
def test_a_folder_is_on_the_file_system_mounted_nearest_above_it(folder, verdict, found):
    mounted = doctor.parse_linux_mounts(MOUNTS)

    check = doctor.check_file_system("WAL_ROOT", Path(folder), mounted)

    assert (check.verdict, check.found[: len(found)]) == (verdict, found)


def test_a_network_disk_fails_for_the_log_and_is_a_warning_for_the_lake():
    mounted = [("/", "nfs4")]

    assert doctor.check_file_system("WAL_ROOT", Path("/x"), mounted).verdict == "FAIL"
    assert doctor.check_file_system("DATA_ROOT", Path("/x"), mounted).verdict == "WARN"
    assert doctor.check_file_system("WAL_ROOT", Path("/x"), []).found == "kind of file system unknown"


def test_mounts_on_a_mac_are_read_from_its_command(monkeypatch, tmp_path):
    (tmp_path / "mount").write_text(
        "#!/bin/sh\n"
        "echo '/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)'\n"
        "echo '//me@server/share on /Volumes/My Share (smbfs, nodev, nosuid)'\n"
    )
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setattr(doctor, "_LINUX_MOUNTS", tmp_path / "absent")
    monkeypatch.setattr(doctor, "_MOUNT_COMMAND_PATH", str(tmp_path))

    assert doctor.mounts() == [("/", "apfs"), ("/Volumes/My Share", "smbfs")]


@pytest.mark.parametrize(("free", "verdict"), [(1 << 30, "FAIL"), (5 << 30, "WARN"), (50 << 30, "OK")])
def test_little_free_space_is_said(free, verdict):
    assert doctor.check_free_space("WAL_ROOT", free).verdict == verdict


@pytest.mark.parametrize(("soft", "verdict"), [(64, "FAIL"), (256, "WARN"), (4096, "OK"), (-1, "OK")])
def test_few_descriptors_are_said(soft, verdict):
    assert doctor.check_descriptors(soft, 1 << 20).verdict == verdict


def test_too_little_memory_for_a_recovery_is_said():
    assert doctor.check_memory(1 << 30, 256 << 20).verdict == "OK"
    assert doctor.check_memory((1 << 30) - 1, 256 << 20).verdict == "WARN"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(Latency(0.001, 0.02, 0.04), "OK"), (Latency(0.001, 0.2, 0.4), "WARN"), (Latency(1e-6, 2e-6, 0.001), "WARN")],
    ids=["a disk", "a slow disk", "no disk"],
)
def test_slow_and_unbelievably_fast_syncs_are_said(measured, verdict):
    assert doctor.judge_latency("sync", measured).verdict == verdict


def test_measuring_leaves_nothing_behind(tmp_path):
    assert [check.verdict for check in doctor.check_syncs(tmp_path)] != ["FAIL"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "wal").mkdir(mode=0o500)

    assert doctor.check_folder("WAL_ROOT", tmp_path / "wal").verdict == "FAIL"


def test_a_running_daemon_is_named_and_a_killed_one_is_not(tmp_path):
    assert doctor.check_daemon(tmp_path / "absent").found == "none records here"
    holding = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib; from spymaster import durable\n"
         "with durable.lock_directory(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
         str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holding.stdout.readline() == b"held\n"

    assert doctor.check_daemon(tmp_path).found == f"process {holding.pid} records here"

    holding.kill()
    holding.communicate()
    assert doctor.check_daemon(tmp_path).found == "none records here"
