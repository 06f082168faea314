"""Where these tests can run: the log and lake are on the disk of `tmp_path`."""

import pytest

from tests.faults import storage_calls


@pytest.fixture(scope="session")
def storage_taps() -> None:
    """Skip where no process can be stopped at its storage calls."""
    if reason := storage_calls.unsupported():
        pytest.skip(reason)
