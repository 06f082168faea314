"""A real disk that is small enough to fill: a tmpfs, and a file that takes what is free of it."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MB = 1 << 20


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def leave(self, free_bytes: int) -> None:
        """Take or give room with a file of another program, until so much is free."""
        with self._ballast.open("ab") as file:
            held = os.fstat(file.fileno()).st_size
            size = max(held + self.free_bytes - free_bytes, 0)
            file.truncate(min(size, held))
            while size > held:
                try:
                    os.posix_fallocate(file.fileno(), held, size - held)
                    return
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size -= 1 << 14  # whoever writes there took some meanwhile; never what is given up after this

    def free(self) -> None:
        """Give all of it back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(root: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a tmpfs at `root`; skip the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small tmpfs")
    root.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(root)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a small tmpfs: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", "-l", str(root)], check=True)
